/* Which lossless form a block takes, and the lower bound that follows from that choice.
 *
 * The choice is made in steps, the first of which is cheap: where the lowest bits that are in use look random, they are
 * stored raw, and of many elements only the split form and the raw one are considered. planes_floor rests on this rule:
 * what passes the test is at least as large as its raw bits. Otherwise the forms compete by their estimated cost on a
 * sample. */
#include "planes.h"

enum { TINY = 16 };           /* elements that are not worth a table */
enum { ALWAYS_CODED = 8192 }; /* below so many elements, each plane's histogram is counted out */
enum { FLAT_PLANE = 522716 }; /* 7.976 bits in 1/65536: above, a plane is stored raw */
enum { DISTINCT = 256, SLOTS = 1024 };
enum { FLOOR_PART = 1 << 14 };

/* ---- what a sample says of bytes and of whole values ---- */

/* Bits of n symbols of which a sample has these counts, in 1/65536 each; Miller and Madow's correction included. */
static uint64_t bits_each(const uint32_t *counts, size_t kinds)
{
    uint64_t drawn = 0, used = 0, sum = 0;
    for (size_t s = 0; s < kinds; s++) {
        drawn += counts[s];
        used += counts[s] != 0;
        sum += v_log2_v(counts[s]);
    }
    return (v_log2_v(drawn) - sum + ((used - 1) * 3 / 4 << 16)) / drawn;
}

/* The byte form's estimated bits, and which planes are not worth coding. */
static uint64_t plan_bytes(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t isa,
                           unsigned *raw_planes)
{
    uint8_t symbols[SAMPLE_MOST];
    uint64_t bits = 0;
    *raw_planes = 0;
    for (unsigned plane = 0; plane < bytes; plane++) {
        size_t drawn = 0, start, length;
        uint32_t counts[256];
        for (sample_runs r = {n, 0, false}; next_run(&r, &start, &length); drawn += length)
            extract_plane(elements, start, length, bytes, plane, rotate, delta, isa, symbols + drawn);
        histogram_u8(symbols, drawn, isa, counts);
        uint64_t each = bits_each(counts, 256);
        if (each > FLAT_PLANE && n > ALWAYS_CODED)
            *raw_planes |= 1u << plane;
        bits += (uint64_t)n * ((each < 8 << 16 ? each : 8 << 16) >> 8) / 256 + 64;
    }
    return bits;
}

/* The dictionary's estimated bits; no less than UINT64_MAX / 4 where the sample has more values than fit. */
static uint64_t plan_dictionary(const uint8_t *elements, size_t n, unsigned bytes)
{
    uint64_t values[SLOTS];
    uint32_t counts[SLOTS] = {0};
    unsigned distinct = 0;
    size_t start, length;
    for (sample_runs r = {n, 0, false}; next_run(&r, &start, &length);)
        for (size_t i = start; i < start + length; i++) {
            uint64_t u = load_element(elements + i * bytes, bytes);
            size_t slot = dictionary_slot(u, values, counts, SLOTS);
            values[slot] = u;
            distinct += counts[slot]++ == 0;
            if (distinct > DISTINCT)
                return UINT64_MAX / 4;
        }
    return (uint64_t)n * (bits_each(counts, SLOTS) >> 8) / 256 + (uint64_t)distinct * (8 * bytes + 5);
}

/* ---- the choice ---- */

/* most_top: 0, or the choice is made anew from all elements and with no more top bits than that: what planes_floor
 * proved stays true. */
void planes_choose(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t isa,
                   const segment_look *looks, unsigned most_top, planes_plan *plan)
{
    uint64_t raw = (uint64_t)n * bytes * 8, best = raw;
    plan->form = FORM_RAW;
    plan->raw_planes = 0;
    if (n < TINY)
        return;
    if (rotate) {
        uint64_t split = plan_split(elements, n, bytes, looks, most_top, &plan->split);
        if (split < best) {
            plan->form = FORM_SPLIT;
            best = split;
        }
        if (n >= SAMPLE_MOST && low_bits_are_random(elements, n, bytes, isa))
            return;
    }
    uint64_t by_bytes = plan_bytes(elements, n, bytes, rotate, delta, isa, &plan->raw_planes);
    if (by_bytes < best || (n <= ALWAYS_CODED && plan->form == FORM_RAW)) {
        plan->form = FORM_BYTES;
        best = by_bytes;
    }
    if (bytes > 1 && !delta && plan_dictionary(elements, n, bytes) < best)
        plan->form = FORM_DICTIONARY;
}

/* ---- the lower bound ---- */

/* Raw bytes of the elements that are not zero, in the split form; stops at `enough`. Zeros may be left out, and symbols
 * cost at least nothing. */
static uint64_t raw_floor(const uint8_t *elements, size_t n, const split_form *f, uint32_t isa, uint64_t enough)
{
    const unsigned width = f->low - f->tail + f->has_signs;
    uint64_t bits = 0;
    for (size_t done = 0; done < n && bits < 8 * enough; done += SEGMENT) {
        size_t part = n - done < SEGMENT ? n - done : SEGMENT;
        segment_look look = look_at_segment(elements + done * f->bytes, part, f->bytes, isa);
        bits += (uint64_t)look.nonzero * (width - zero_bits(look.any, f));
    }
    return bits / 8;
}

/* Of few elements all forms are tried, but for the dictionary none can make much of random bits: no form saves a
 * quarter of what the split form leaves raw. */
static uint64_t small_floor(const uint8_t *elements, size_t n, const split_form *f, uint32_t isa, uint64_t enough)
{
    return raw_floor(elements, n, f, isa, enough * 4 / 3 + 1) * 3 / 4;
}

/* Bytes that a plane of n <= FLOOR_PART elements takes at least, alone or as a part of a longer one: no table codes a
 * part in less than its entropy. */
static uint64_t plane_floor(const uint8_t *elements, size_t n, unsigned bytes, unsigned plane, uint32_t isa)
{
    enum { INEXACT = 64 }; /* of quick_log2, in 1/65536: more than twice what it may be off */
    uint8_t part[FLOOR_PART];
    uint32_t counts[256];
    extract_plane(elements, 0, n, bytes, plane, true, false, isa, part);
    histogram_u8(part, n, isa, counts);
    uint64_t bits = v_log2_v(n), spent = n * INEXACT;
    for (unsigned s = 0; s < 256; s++)
        spent += v_log2_v(counts[s]);
    return bits > spent ? (bits - spent) >> 19 : 0;
}

/* Of so many planes of the byte form, from the mantissa's highest one down; stops at `enough`. */
static uint64_t bytes_floor(const uint8_t *elements, size_t n, unsigned bytes, unsigned planes, uint32_t isa,
                            uint64_t enough)
{
    uint64_t found = 0;
    for (unsigned plane = bytes - 1; plane-- > bytes - 1 - planes;)
        for (size_t done = 0, part; done < n && found < enough; done += part) {
            part = n - done < FLOOR_PART ? n - done : FLOOR_PART;
            found += plane_floor(elements + done * bytes, part, bytes, plane, isa);
        }
    return found;
}

/* Where low bits are not random, all forms compete; the dictionary does not where it is too small. */
static uint64_t least_form(const uint8_t *elements, size_t n, const split_form *least, uint32_t isa, uint64_t enough)
{
    if (n <= DISTINCT || plan_dictionary(elements, n, least->bytes) < UINT64_MAX / 4)
        return 0;
    uint64_t split = raw_floor(elements, n, least, isa, enough);
    if (split < enough)
        return split;
    return bytes_floor(elements, n, least->bytes, least->bytes - 1, isa, enough);
}

/* Of the dictionary and of the byte form, where the encoder chooses one of them; what stands in for the dictionary,
 * should one not do, is the byte form. A dictionary's number says all of its element, hence no less than a byte of it.
 */
static uint64_t chosen_floor(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa, uint64_t enough)
{
    segment_look looks[SZD_DEFAULT_TILE / SEGMENT];
    planes_plan plan;
    uint64_t of_dictionary = bytes_floor(elements, n, bytes, 1, isa, enough), of_bytes = of_dictionary;
    if (of_dictionary < enough)
        of_bytes = bytes_floor(elements, n, bytes, bytes - 1, isa, enough);
    if (of_bytes < enough)
        return 0;
    look_at_segments(elements, n, bytes, isa, looks);
    planes_choose(elements, n, bytes, true, false, isa, looks, 0, &plan);
    return plan.form == FORM_DICTIONARY ? of_dictionary : plan.form == FORM_BYTES ? of_bytes : 0;
}

/* What the encoder chooses for n elements is proven to take at least so many bytes: with the most top bits that the
 * split form may take for its symbols, and if that is not enough, with those that it will take. */
uint64_t planes_floor(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, uint64_t enough)
{
    segment_look looks[SZD_DEFAULT_TILE / SEGMENT];
    const uint32_t isa = isa_resolve(SZD_ISA_AUTO);
    split_form least = {.bytes = bytes, .low = 8 * bytes - 1 - most_top_bits(bytes), .tail = bytes < 4 ? 0 : TAIL};
    if (!rotate)
        return 0;
    if (!low_bits_are_random(elements, n, bytes, isa)) {
        uint64_t found = least_form(elements, n, &least, isa, enough);
        return found >= enough || n > SZD_DEFAULT_TILE ? found : chosen_floor(elements, n, bytes, isa, enough);
    }
    if (n < SAMPLE_MOST)
        return plan_dictionary(elements, n, bytes) < UINT64_MAX / 4 ? 0 : small_floor(elements, n, &least, isa, enough);
    uint64_t found = raw_floor(elements, n, &least, isa, enough);
    if (found >= enough || n > SZD_DEFAULT_TILE)
        return found;
    planes_plan plan;
    look_at_segments(elements, n, bytes, isa, looks);
    planes_choose(elements, n, bytes, rotate, false, isa, looks, 0, &plan);
    return plan.form == FORM_SPLIT ? raw_floor(elements, n, &plan.split, isa, enough) : n * bytes;
}
