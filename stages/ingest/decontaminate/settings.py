"""What is kept out of training because a model is judged by it."""

from typing import Self

from pydantic import Field, model_validator

from stages.settings import Settings


class DecontaminateSettings(Settings):
    """Training documents that share a run of words with a guarded text are refused (Brown et al. 2020, appendix C)."""

    enabled: bool = True
    """Whether training text is compared with the validation splits and the tasks at all."""

    ngram: int = Field(default=13, ge=2)
    """Words in a run that marks an overlap: 13 as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C)."""

    min_words: int = Field(default=8, ge=2)
    """Shortest guarded text, in words. One shorter than ``ngram`` is compared as a whole; one shorter than this could
    stand in any document by chance and is only counted (8: the shortest run in Brown et al. 2020, appendix C)."""

    tasks: list[str] = Field(default=[])
    """lm-eval tasks whose texts are guarded, beside those that the recipe evaluates."""

    @model_validator(mode="after")
    def _whole_texts_are_shorter(self) -> Self:
        if self.min_words > self.ngram:
            raise ValueError(
                f"min_words is {self.min_words}, ngram {self.ngram}: texts of {self.ngram} words and more are compared "
                f"by runs of {self.ngram}, so min_words can be {self.ngram} at most"
            )
        return self
