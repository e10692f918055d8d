"""Golden outputs: what people and programs see of sample fleets, as text files that a change is compared with."""
