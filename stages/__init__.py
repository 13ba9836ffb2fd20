"""What each stage of an update does: plain functions over folders of files, in the order the data flows."""
