"""Make and check what a training needs before its first step."""
