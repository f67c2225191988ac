"""What there is to see of a row, and the forms it is shown in."""
