"""What a study is: its grid, the runs it needs, and the folder that holds them."""
