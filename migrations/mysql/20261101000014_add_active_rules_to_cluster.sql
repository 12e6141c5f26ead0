ALTER TABLE cluster ADD COLUMN active_rules CHAR(64);
