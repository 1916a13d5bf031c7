#!/bin/sh
# Makes skeletons.gif, the picture of README.md, in the working folder: generated people, a minute.
set -eu
skelcl data generate ntu60 --output raw --subjects 2 --actions 15 --setups 1
skelcl data prepare ntu60 --raw raw --root data
skelcl plot skeleton --store data/ntu60 --clip '[S001C002P002R001A006, S001C001P001R001A003, S001C002P002R001A050]' --output skeletons.gif
