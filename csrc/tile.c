/* Tiles of an array (FORMAT.md, section 3): where they lie, and their elements in order. */
#include "internal.h"

bool tile_of(const szd_header *h, uint64_t block, tile *t)
{
    t->rank = h->tile_rank;
    t->count = 1;
    if (block >= h->blocks)
        return false;
    for (unsigned a = t->rank; a-- > 0;) {
        uint64_t across = (h->dims[a] + h->tile[a] - 1) / h->tile[a];
        t->origin[a] = block % across * h->tile[a];
        block /= across;
        uint64_t rest = h->dims[a] - t->origin[a];
        t->extent[a] = rest < h->tile[a] ? rest : h->tile[a];
        t->count *= t->extent[a];
    }
    return true;
}

/* The elements of the tensor's rows: of its axes from the first one after axis 0 from which on they are few enough. */
uint64_t row_length(const szd_header *h)
{
    uint64_t row = 1;
    for (unsigned a = h->rank; a-- > 1;) {
        if (h->shape[a] == 0 || h->shape[a] > LONGEST_ROW / row)
            break;
        row *= h->shape[a];
    }
    return row;
}

/* The width of the rows that a tile's elements form, 0 if none. */
size_t row_width(const szd_header *h, const tile *t)
{
    if (t->rank > 1)
        return (size_t)t->extent[t->rank - 1];
    uint64_t row = row_length(h);
    return row > 1 && t->origin[0] % row == 0 ? (size_t)row : 0;
}

/* The rows that the mixing coder sees, and the column of the tile's first element. */
size_t mixing_width(const szd_header *h, const tile *t)
{
    uint64_t row = t->rank > 1 ? t->extent[t->rank - 1] : row_length(h);
    return row > 1 ? (size_t)row : 0;
}

size_t mixing_phase(const szd_header *h, const tile *t)
{
    size_t width = mixing_width(h, t);
    return t->rank == 1 && width ? (size_t)(t->origin[0] % width) : 0;
}

size_t mixing_scratch(const szd_header *h)
{
    uint64_t row = h->tile_rank > 1 ? h->tile[h->tile_rank - 1] : row_length(h);
    size_t widest = mix_scratch((size_t)row), narrow = mix_scratch(0); /* every tile's width, and what replaces 1 */
    return h->mixed ? (widest > narrow ? widest : narrow) + 64 : 0;
}

/* The distance between neighbours along axis a of a tile in its own order. */
size_t stride_of(const tile *t, unsigned a)
{
    size_t stride = 1;
    for (unsigned b = a + 1; b < t->rank; b++)
        stride *= t->extent[b];
    return stride;
}

uint64_t largest_tile(const szd_header *h)
{
    uint64_t n = 1;
    for (unsigned a = 0; a < h->tile_rank; a++)
        n *= h->tile[a];
    return n;
}

void tile_strides(const szd_header *h, uint64_t strides[SZD_MAX_TILE_RANK])
{
    uint64_t s = 1;
    for (unsigned a = h->tile_rank; a-- > 0;) {
        strides[a] = s;
        s *= h->dims[a];
    }
}

runs runs_begin(const tile *t, const uint64_t *strides) { return (runs){t, strides, {0}, 0, 0}; }
uint64_t run_length(const runs *r) { return r->t->extent[r->t->rank - 1]; }

void runs_next(runs *r)
{
    r->done += run_length(r);
    for (unsigned a = r->t->rank - 1; a-- > 0;) {
        r->offset += r->strides[a];
        if (++r->at[a] < r->t->extent[a])
            return;
        r->offset -= r->strides[a] * r->at[a];
        r->at[a] = 0;
    }
}

uint64_t first_element(const tile *t, const uint64_t *strides)
{
    uint64_t first = 0;
    for (unsigned a = 0; a < t->rank; a++)
        first += t->origin[a] * strides[a];
    return first;
}

void gather(const uint8_t *from, const tile *t, const uint64_t *strides, unsigned bytes, uint8_t *to)
{
    for (runs r = runs_begin(t, strides); r.done < t->count; runs_next(&r))
        memcpy(to + r.done * bytes, from + r.offset * bytes, run_length(&r) * bytes);
}

/* Where an element of a tile lies on the grid of every 2^level-th; false where it is not on it. */
bool offset_in(const tile *t, const uint64_t *strides, unsigned level, uint64_t position, uint64_t *offset)
{
    *offset = 0;
    for (unsigned a = t->rank; a-- > 0; position /= t->extent[a]) {
        uint64_t at = position % t->extent[a];
        if (at & (((uint64_t)1 << level) - 1))
            return false;
        *offset += (at >> level) * strides[a];
    }
    return true;
}

tile coarse_tile(const tile *t, unsigned level)
{
    tile coarse = {.rank = t->rank, .count = 1};
    for (unsigned a = 0; a < t->rank; a++) {
        coarse.extent[a] = ((t->extent[a] - 1) >> level) + 1;
        coarse.count *= coarse.extent[a];
    }
    return coarse;
}

/* Puts a sequence of elements, handed over in the tile's order, in their places. */
/* The place of the next n elements, if they lie side by side, NULL otherwise. */
uint8_t *sink_room(const sink *s, uint64_t n)
{
    return !s->level && run_length(&s->at) - s->in_run >= n ? s->out + (s->at.offset + s->in_run) * s->bytes : NULL;
}

/* Those of n elements that are on the grid. */
static void write_thinned(sink *s, const uint8_t *elements, uint64_t n)
{
    for (uint64_t i = 0, to; i < n; i++, s->at.done++)
        if (offset_in(s->at.t, s->at.strides, s->level, s->at.done, &to))
            memcpy(s->out + to * s->bytes, elements + i * s->bytes, s->bytes);
}

/* n elements, which may be in their place already. */
void sink_write(sink *s, const uint8_t *elements, uint64_t n)
{
    if (s->level) {
        write_thinned(s, elements, n);
        return;
    }
    while (n) {
        uint64_t rest = run_length(&s->at) - s->in_run, part = rest < n ? rest : n;
        uint8_t *to = s->out + (s->at.offset + s->in_run) * s->bytes;
        if (to != elements)
            memcpy(to, elements, part * s->bytes);
        elements += part * s->bytes;
        s->in_run += part;
        n -= part;
        if (s->in_run == run_length(&s->at)) {
            runs_next(&s->at);
            s->in_run = 0;
        }
    }
}
