"""The picture of a search."""

from skelcl.plotting import parameter_scatter


def test_each_parameter_of_a_search_has_a_panel_with_a_point_for_each_trial():
    columns = {"rate": [0.1, 0.001, 0.01], "loss": ["a", "b", "a"]}
    figure = parameter_scatter(columns, [0.5, 0.7, 0.2], [True, True, False], 1, "val/x", {"rate"})
    rate, loss = figure.axes
    assert (rate.get_xscale(), loss.get_xscale()) == ("log", "linear")
    assert [axes.get_xlabel() for axes in figure.axes] == ["rate", "loss"]
    points = [[tuple(point.get_offsets()[0].tolist()) for point in axes.collections] for axes in figure.axes]
    assert points == [[(0.1, 0.5), (0.001, 0.7), (0.01, 0.2)], [(0, 0.5), (1, 0.7), (0, 0.2)]]
    assert [tick.get_text() for tick in loss.get_xticklabels()] == ["a", "b"]
    sizes = [point.get_sizes()[0] for point in rate.collections]
    assert max(sizes) == sizes[1], "the best is larger"
    assert [len(point.get_facecolors()) for point in rate.collections] == [1, 1, 0], "not trained to the end: hollow"
