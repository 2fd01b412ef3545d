/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Gives each file named to a fuzz target once, and says so as libFuzzer does,
 * whose options it passes over: for builds that count what runs.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* What libFuzzer takes at most: longer files are cut, as it cuts them. */
#define INPUT_MAX (1u << 20)

/* A target with a mutator of its own asks for it; nothing is mutated here. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
	(void)data;
	(void)max;
	return size;
}

static void replay(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX);
	FILE *file = fopen(path, "rb");
	size_t len;

	assert(data && file);
	len = fread(data, 1, INPUT_MAX, file);
	assert(!ferror(file));
	fclose(file);
	LLVMFuzzerTestOneInput(data, len);
	free(data);
}

int main(int argc, char **argv)
{
	/* Targets may take stderr away. */
	FILE *said = stderr;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-')
			continue;
		replay(argv[i]);
		fprintf(said, "Executed %s\n", argv[i]);
	}
	return 0;
}
