"""What every part shares: ids, clock, money, errors, settings and the frozen records handed along."""
