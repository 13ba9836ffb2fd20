"""What is kept out of training because a model is judged by it."""

from typing import Self

from pydantic import Field, model_validator

from stages.settings import Settings


class DecontaminateSettings(Settings):
    """Passages that training text shares with a guarded text are cut out (Brown et al. 2020, appendix C).

    A shared run of ``ngram`` words goes with its surroundings and the rest of the document is kept, unless many
    documents hold the run: then it is boilerplate, such as a licence, and no sign that anything was copied.
    """

    enabled: bool = True
    """Whether training text is compared with the validation splits and the tasks at all."""

    ngram: int = Field(default=13, ge=2)
    """Words in a run that marks an overlap: 13 as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C).
    In Chinese and Japanese a word is a character, in Thai, Lao, Burmese and Khmer three letters."""

    min_words: int = Field(default=8, ge=2)
    """Shortest guarded text, in words. One shorter than ``ngram`` is compared as a whole; one shorter than this could
    stand in any document by chance and is only counted (8: the shortest run in Brown et al. 2020, appendix C)."""

    max_holders: int = Field(default=10, ge=1)
    """Documents that may hold a run before it is boilerplate and stays (10 in Brown et al. 2020). The arrival's are
    counted, its validation documents included, and those that an earlier dataset counted when its guard was written."""

    repeated_share: float = Field(default=0.01, ge=0, le=1)
    """For validation splits only: share of the arrival's words that may be cut for runs that three or more documents
    hold. Where text repeats itself so much that it would take more, fewer holders make a run boilerplate, down to two:
    such text repeats itself in the same way wherever it is held out. A run in two documents is always cut."""

    surroundings: int = Field(default=34, ge=0)
    """Words cut on each side of a shared passage: as many as the passage has, at most this many. 34 words of English
    are the 200 characters of Brown et al. 2020; counted in words, it is as much in every script, but for Thai, Lao,
    Burmese and Khmer, whose letters are counted."""

    min_piece: int = Field(default=34, ge=1)
    """Words that a piece between two cuts must have to be kept (200 characters of English in Brown et al. 2020)."""

    max_cuts: int = Field(default=10, ge=0)
    """Cuts after which a document is removed as a whole (10 in Brown et al. 2020)."""

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
