# SPDX-License-Identifier: BSD-3-Clause
SRC += $(wildcard formats/raw/*.c)
