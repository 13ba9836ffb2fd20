"""The words of the report that a reader may not know, as the glossary defines them."""

WORDS = {
    "arrival": "the data of one update: one or more datasets that arrive together",
    "lineage": "the sequence of updates of one workspace, from the base on",
    "trunk": "the end of training at the schedule's own rate, from which the next update starts",
    "anneal": "training on a branch from the trunk's end while the learning rate decays; its result is the release",
    "release": "the model of an update that is meant for use; under cosine it is the trunk",
    "gate": "the comparison that decides whether a candidate becomes the current release",
    "nats": "unit of loss: natural logarithm; 1 nat is 1.44 bits",
}
