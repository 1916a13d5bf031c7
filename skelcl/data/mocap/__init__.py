"""Motion capture: BVH, C3D and TRC files, each read into the joints of one body, in metres, y upwards."""
