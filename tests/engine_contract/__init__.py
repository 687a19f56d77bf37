"""What every engine body has to keep, written once and run over all of them (`antiphon.engine.contract`)."""
