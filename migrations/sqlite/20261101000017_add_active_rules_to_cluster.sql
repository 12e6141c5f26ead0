ALTER TABLE cluster ADD COLUMN active_rules TEXT;
