"""The audit log: every act of people and programs, as a chain that nobody can rewrite without the key."""
