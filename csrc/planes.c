/* Elements losslessly, in whichever form is smallest (FORMAT.md, section 5). */
#include "planes.h"

size_t planes_scratch(size_t n)
{
    return split_scratch(n) + segments_of(n) * sizeof(segment_look) + 2 * 64; /* the other forms need less */
}

static void write_raw(const uint8_t *elements, size_t n, unsigned bytes, writer *w)
{
    write_u8(w, FORM_RAW);
    uint8_t *p = write_room(w, (uint64_t)n * bytes);
    if (!p)
        return;
    memcpy(p, elements, n * bytes);
    to_little_endian(p, n, bytes);
}

typedef struct encoder {
    const uint8_t *elements;
    size_t n, width;
    unsigned bytes;
    bool rotate, delta;
    uint32_t coder, isa;
    const segment_look *looks;
    uint8_t *scratch;
} encoder;

/* False where the elements do not fit the form after all: only a sample of them was seen when it was chosen. */
static bool encode_as(const encoder *e, const planes_plan *plan, writer *w)
{
    switch (plan->form) {
    case FORM_SPLIT:
        return split_encode(&plan->split, e->looks, e->elements, e->n, e->width, e->coder, e->isa, e->scratch, w);
    case FORM_DICTIONARY: return dictionary_encode(e->elements, e->n, e->bytes, e->coder, e->isa, e->scratch, w);
    case FORM_BYTES:
        bytes_encode(plan, e->elements, e->n, e->bytes, e->rotate, e->delta, e->coder, e->isa, e->scratch, w);
        return true;
    default: return false;
    }
}

static void choose(const encoder *e, unsigned most_top, planes_plan *plan)
{
    planes_choose(e->elements, e->n, e->bytes, e->rotate, e->delta, e->isa, e->looks, most_top, plan);
}

void planes_encode(const uint8_t *elements, size_t n, size_t width, unsigned bytes, bool rotate, bool delta,
                   uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w)
{
    const writer start = *w;
    planes_plan plan;
    segment_look *looks = take(&scratch, segments_of(n) * sizeof *looks);
    encoder e = {elements, n, width, bytes, rotate, delta, coder, isa, looks, scratch};
    if (rotate)
        look_at_segments(elements, n, bytes, isa, looks);
    choose(&e, 0, &plan);
    bool done = encode_as(&e, &plan, w);
    if (!done && plan.form == FORM_DICTIONARY) {
        *w = start;
        plan.form = FORM_BYTES;
        done = encode_as(&e, &plan, w);
    }
    if (!done && plan.form == FORM_SPLIT) {
        *w = start;
        choose(&e, plan.split.top, &plan);
        plan.form = plan.form == FORM_DICTIONARY ? FORM_BYTES : plan.form;
        done = encode_as(&e, &plan, w);
    }
    if (!done || w->failed || (size_t)(w->at - start.at) > 1 + n * bytes) {
        *w = start;
        write_raw(elements, n, bytes, w);
    }
}

static int begin_raw(planes_decoder *d, reader *r, size_t n)
{
    const uint8_t *p = read_bytes(r, (uint64_t)n * d->bytes);
    d->planes[d->bytes - 1].coder = SYMBOLS_RAW;
    d->raw = (reader){p, p, false};
    return p ? SZD_OK : SZD_BLOCK_SHORT;
}

int planes_begin(planes_decoder *d, reader *r, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t isa,
                 uint8_t *scratch)
{
    d->bytes = bytes;
    d->rotate = rotate;
    d->delta = delta;
    d->form = read_u8(r);
    switch (d->form) {
    case FORM_RAW: return r->failed ? SZD_BLOCK_SHORT : begin_raw(d, r, n);
    case FORM_BYTES: return bytes_begin(d, r, n);
    case FORM_SPLIT: return rotate ? split_begin(d, r, n, isa, scratch) : SZD_BLOCK_CODES;
    case FORM_DICTIONARY: return dictionary_begin(d, r, n);
    default: return SZD_BLOCK_CODES;
    }
}

static bool raw_next(planes_decoder *d, uint8_t *elements, size_t n)
{
    memcpy(elements, d->raw.at, n * d->bytes);
    to_little_endian(elements, n, d->bytes);
    d->raw.at += n * d->bytes;
    return true;
}

/* All calls' n are multiples of CHUNK but the last one's. */
bool planes_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa)
{
    bool good = true;
    for (size_t done = 0; good && done < n; done += CHUNK) {
        size_t part = n - done < CHUNK ? n - done : CHUNK;
        uint8_t *to = elements + done * d->bytes;
        switch (d->form) {
        case FORM_RAW: good = raw_next(d, to, part); break;
        case FORM_BYTES: good = bytes_next(d, to, part, isa); break;
        case FORM_SPLIT: good = split_next(d, to, part, isa); break;
        default: good = dictionary_next(d, to, part, isa);
        }
    }
    return good;
}

bool planes_finished(planes_decoder *d)
{
    switch (d->form) {
    case FORM_RAW: return true;
    case FORM_BYTES: return bytes_finished(d);
    case FORM_SPLIT: return split_finished(d);
    default: return symbols_finished(&d->planes[d->bytes - 1]);
    }
}
