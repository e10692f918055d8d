"""Risk feeds: files about vulnerabilities that people drop into a folder. Nothing here uses the network."""
