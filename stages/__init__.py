"""The stages of an update: functions over folders, in the order in which data flows through them."""
