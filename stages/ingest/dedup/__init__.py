"""Which documents repeat others: exactly, nearly or by address; in the arrival and in everything ingested before."""
