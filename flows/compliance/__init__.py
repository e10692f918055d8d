"""The compliance document of a month: made from the records, written and sent."""
