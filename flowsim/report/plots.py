def draw(tree, folder, figures=None, formats=("png","svg")): return []
FIGURES={}
