# SPDX-License-Identifier: BSD-3-Clause
SRC += $(wildcard formats/qcow2/*.c)
