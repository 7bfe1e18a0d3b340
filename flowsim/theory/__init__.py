"""What mathematics says about a start, without running anything: limits, rates, laws."""
