"""The statistics as pure functions of arrays: nothing here knows sites, protocols or files."""
