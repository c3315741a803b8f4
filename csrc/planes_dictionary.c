/* The dictionary form (FORMAT.md, section 5.3): at most 256 different elements, and their numbers as symbols. */
#include "planes.h"

enum { SLOTS = 1024, ENTRIES = 256 };

typedef struct dictionary {
    unsigned entries;
    uint64_t values[SLOTS], sorted[ENTRIES];
    uint32_t counts[SLOTS];
    uint8_t number[SLOTS]; /* in order of appearance, then of value */
} dictionary;

/* Numbers the elements in order of appearance; false when they are more than ENTRIES. */
static bool number_elements(dictionary *t, const uint8_t *elements, size_t n, unsigned bytes, uint8_t *symbols)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t u = load_element(elements + i * bytes, bytes);
        size_t slot = dictionary_slot(u, t->values, t->counts, SLOTS);
        if (!t->counts[slot]) {
            if (t->entries == ENTRIES)
                return false;
            t->counts[slot] = 1;
            t->values[slot] = t->sorted[t->entries] = u;
            t->number[slot] = (uint8_t)t->entries++;
        }
        symbols[i] = t->number[slot];
    }
    return true;
}

/* Ascending values; rank[number of appearance] is the place. */
static void sort_entries(dictionary *t, uint8_t rank[ENTRIES])
{
    uint64_t appeared[ENTRIES];
    memcpy(appeared, t->sorted, sizeof appeared);
    for (unsigned i = 1; i < t->entries; i++) {
        uint64_t u = t->sorted[i];
        unsigned at = i;
        for (; at > 0 && t->sorted[at - 1] > u; at--)
            t->sorted[at] = t->sorted[at - 1];
        t->sorted[at] = u;
    }
    for (unsigned i = 0; i < t->entries; i++)
        for (unsigned k = 0; k < t->entries; k++)
            if (t->sorted[k] == appeared[i])
                rank[i] = (uint8_t)k;
}

/* False when there are more different elements than a dictionary holds. */
bool dictionary_encode(const uint8_t *elements, size_t n, unsigned bytes, uint32_t coder, uint32_t isa,
                       uint8_t *scratch, writer *w)
{
    dictionary t = {.entries = 0};
    uint8_t rank[ENTRIES] = {0}, *symbols = take(&scratch, n);
    uint32_t counts[256];
    if (!number_elements(&t, elements, n, bytes, symbols))
        return false;
    sort_entries(&t, rank);
    for (size_t i = 0; i < n; i++)
        symbols[i] = rank[symbols[i]];
    write_u8(w, FORM_DICTIONARY);
    write_u8(w, t.entries - 1);
    for (unsigned i = 0; i < t.entries; i++)
        for (unsigned byte = 0; byte < bytes; byte++)
            write_u8(w, (unsigned)(t.sorted[i] >> (8 * byte) & 0xff));
    histogram_u8(symbols, n, isa, counts);
    symbols_encode(symbols, n, counts, coder, isa, aligned64(scratch), w);
    return true;
}

int dictionary_begin(planes_decoder *d, reader *r, size_t n)
{
    d->entries = read_u8(r) + 1u;
    const uint8_t *p = read_bytes(r, (uint64_t)d->entries * d->bytes);
    if (!p)
        return SZD_BLOCK_SHORT;
    memset(d->dictionary, 0, sizeof d->dictionary);
    for (unsigned i = 0; i < d->entries; i++)
        for (unsigned byte = 0; byte < d->bytes; byte++)
            d->dictionary[i] |= (uint64_t)*p++ << (8 * byte);
    return symbols_begin(&d->planes[d->bytes - 1], r, n, SZD_ISA_SCALAR, NULL);
}

/* At most CHUNK elements. */
bool dictionary_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa)
{
    const uint8_t *symbols = symbols_next(&d->planes[d->bytes - 1], d->buffer[0], n, isa);
    uint8_t most = 0;
    if (!symbols)
        return false;
    for (size_t i = 0; i < n; i++)
        most = symbols[i] > most ? symbols[i] : most;
    if (most >= d->entries)
        return false;
    switch (d->bytes) {
    case 1:
        for (size_t i = 0; i < n; i++)
            store_element(elements + i, d->dictionary[symbols[i]], 1);
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            store_element(elements + 2 * i, d->dictionary[symbols[i]], 2);
        break;
    case 4:
        for (size_t i = 0; i < n; i++)
            store_element(elements + 4 * i, d->dictionary[symbols[i]], 4);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            store_element(elements + 8 * i, d->dictionary[symbols[i]], 8);
    }
    return true;
}
