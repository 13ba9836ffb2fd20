"""The model card: each release carries a README.md in Hugging Face's form that says what it was made of and how."""
