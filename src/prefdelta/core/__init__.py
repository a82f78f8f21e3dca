"""What every other package stands on: errors, records, artifacts, progress, model references and chat templates."""
