/* Writes and reads frames on any processor, out of csrc alone: ./agree CASES RESULTS
 *
 * A result is: u64 length and bytes of the values that a case's frame decodes to (little-endian elements), u64 length
 * and bytes of the frame that the values give under the header of the one that was read. */
#include "cases.h"

static void put(FILE *file, const uint8_t *data, size_t size)
{
    uint8_t length[8];
    store_u64(length, size);
    if (fwrite(length, 1, 8, file) != 8 || fwrite(data, 1, size, file) != size) {
        perror("results");
        exit(2);
    }
}

static void run_case(reader *r, FILE *results)
{
    test_case c = take_case(r);
    uint8_t *decoded = decode(&c.h, &c.options, c.frame, c.frame_size);
    to_little_endian(decoded, c.h.elements, c.h.element_bytes);
    put(results, decoded, c.size);
    size_t made_size;
    uint8_t *made = encode(&c.h, &c.options, c.values, &made_size);
    put(results, made, made_size);
    free(decoded), free(c.values), free(made);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CASES RESULTS\n", argv[0]);
        return 2;
    }
    size_t size, count = 0;
    uint8_t *cases = read_file(argv[1], &size);
    FILE *results = fopen(argv[2], "wb");
    if (!results) {
        perror(argv[2]);
        return 2;
    }
    reader r = {cases, cases + size, false};
    for (; reader_left(&r); count++)
        run_case(&r, results);
    if (fclose(results)) {
        perror(argv[2]);
        return 2;
    }
    printf("%zu frames\n", count);
    return 0;
}
