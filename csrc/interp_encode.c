/* A tile by interpolation: stage by stage from values to residuals (FORMAT.md, section 11). */
#include "interp_encode.h"
#include "interp_job.h"

/* So many zeros are given by a mask; fewer, and fewer than one in so many values, are stored where they are missed. */
enum { MANY_ZEROS = 16, RARE_ZEROS = 1 << 14 };
enum { FEW = 64, FEW_OTHERS = 8, LEAST_TOLD = 512 };

/* Why a value is stored. */
enum { NOT_FINITE = 1, TOO_FAR = 2 };

static bool is_double(const szd_header *h) { return h->kind == SZD_LINEAR64; }

size_t interp_encode_scratch(const szd_header *h)
{
    size_t n = (size_t)largest_tile(h), bytes = is_double(h) ? 8 : 4;
    size_t walking = interp_walk_scratch(h->tile, h->tile_rank, (unsigned)bytes) + n * bytes + interp_fit_scratch();
    size_t outliers = n * (4 + (size_t)h->element_bytes) + planes_scratch(n / 2 + 16),
           coding = interp_symbols_scratch(n);
    size_t most = walking > coding ? walking : coding;
    return sizeof(interp_job) + n * (1 + 4 + 1 + 1) + INTERP_GAP + n / 8 + 1 + (most > outliers ? most : outliers) +
           20 * 64;
}

static bool lies_as_work(const interp_job *j)
{
    return j->h->element_bytes == j->walk.k->bytes && (uintptr_t)j->values % j->walk.k->bytes == 0;
}

/* Finds the tile in the work type: where it lies, or a copy. Values that are not finite are those before them as far as
 * prediction goes. Returns how many zeros there are. */
static size_t load_tile(interp_job *j, const uint8_t **found)
{
    size_t n = (size_t)j->t->count, zeros = 0;
    double last = 0;
    const bool there = lies_as_work(j);
    memset(j->refused, 0, n);
    if (!there)
        j->walk.k->load(j->h->dtype, j->values, n, j->x);
    *found = there ? j->values : j->x;
    if (!j->walk.k->survey(*found, n, &zeros))
        return zeros;
    if (there)
        j->walk.k->load(j->h->dtype, j->values, n, j->x);
    *found = j->x;
    for (size_t i = 0; i < n; i++) {
        double v = j->walk.k->at(j->x, i);
        if (!(v - v == 0)) {
            j->walk.k->put(j->x, i, last);
            j->refused[i] = NOT_FINITE;
            j->refusals++;
            zeros += last == 0;
            v = last;
        }
        last = v;
    }
    return zeros;
}

/* The exact test of what the quick one refused; where the value fails, the prediction stands for it. */
static void settle(interp_job *j, size_t element, const uint8_t *p, int32_t *q, uint8_t *v)
{
    const szd_header *h = j->h;
    uint8_t stored[8];
    j->walk.k->store(h->dtype, v, 1, stored);
    double x = load_as_double(h->dtype, j->values + element * h->element_bytes), y = load_as_double(h->dtype, stored);
    if (j->refused[element] || (x == 0 ? y == 0 : within(x, y, h->eps)))
        return;
    j->refused[element] = TOO_FAR;
    j->refusals++;
    *q = 0;
    j->walk.k->reconstruct(p, q, 1, j->z.step, v);
}

/* Values of a row some of which the quick test refused, the first of them element number `first`, side by side
 * `spacing` apart. They are looked at again a few at a time: refusals are rare. */
static void settle_some(interp_job *j, size_t first, size_t spacing, const uint8_t *x, const uint8_t *p, size_t n,
                        int32_t *q, uint8_t *v, uint8_t *classes)
{
    const interp_kernels *k = j->walk.k;
    for (size_t from = 0, part; from < n; from += part) {
        size_t at = from * k->bytes;
        part = n - from < FEW ? n - from : FEW;
        if (!k->quantize(&j->z, x + at, p + at, part, q + from, v + at, classes + from))
            continue;
        for (size_t i = from; i < from + part; i++)
            if (!j->z.zeros || classes[i] != INTERP_SKIPPED)
                settle(j, first + i * spacing, p + i * k->bytes, q + i, v + i * k->bytes);
    }
}

/* Up to INTERP_SEGMENT values of a row, the first of them number `at` of the stage. */
static void code_segment(interp_job *j, interp_pass *pass, const interp_row *row, size_t from, size_t n)
{
    uint64_t predicted[INTERP_SEGMENT + 16];
    const interp_stage *s = &j->walk.s;
    const interp_kernels *k = j->walk.k;
    size_t at = s->before + row->row * s->width + from, spacing = s->spacing[INTERP_LAST];
    uint8_t *p = (uint8_t *)predicted, *v = interp_coming(&j->walk, row->row) + from * k->bytes;
    const uint8_t *x = j->coming + at * k->bytes;
    uint8_t *classes = j->classes + at;
    int32_t *q = j->q + at;
    interp_pass_predict(pass, row, from, n, p);
    if (j->unit > 0)
        k->snap(p, n, j->unit);
    if (k->quantize(&j->z, x, p, n, q, v, classes))
        settle_some(j, interp_first_of_row(s, row) + from * spacing, spacing, x, p, n, q, v, classes);
}

static bool all_zero(const uint8_t *row, size_t bytes) { return row[0] == 0 && memcmp(row, row + 1, bytes - 1) == 0; }

/* Rows of nothing but given zeros: there is nothing to code. */
static const uint8_t *find_empty_rows(interp_job *j, const uint8_t *x)
{
    const interp_stage *s = &j->walk.s;
    size_t bytes = s->width * j->walk.k->bytes;
    if (!j->z.zeros)
        return NULL;
    for (size_t r = 0; r < s->rows; r++) {
        j->empty[r] = all_zero(x + r * bytes, bytes);
        if (j->empty[r]) {
            memset(interp_coming(&j->walk, r), 0, bytes);
            memset(j->q + s->before + r * s->width, 0, s->width * sizeof *j->q);
        }
    }
    return j->empty;
}

static void code_stage(interp_job *j, stage_plan *plan)
{
    const interp_stage *s = &j->walk.s;
    const uint8_t *x = j->coming + s->before * j->walk.k->bytes;
    interp_pass pass;
    interp_default_weights(s, plan->weights[0]);
    plan->fitted[0] = interp_fit(&j->walk, x, j->z.step, false, j->z.zeros, plan->weights[0], j->work);
    memcpy(plan->weights[1], plan->weights[0], sizeof plan->weights[1]);
    plan->fitted[1] =
        interp_has_border(s) && interp_fit(&j->walk, x, j->z.step, true, j->z.zeros, plan->weights[1], j->work);
    const uint8_t *empty = find_empty_rows(j, x);
    interp_classes(&j->walk, j->z.step, empty, j->classes + s->before);
    interp_pass_begin(&pass, &j->walk, plan->weights, plan->fitted[1]);
    for (size_t r = 0; r < s->rows; r++) {
        if (empty && empty[r])
            continue;
        const interp_row *row = interp_pass_row(&pass, r);
        for (size_t from = 0; from < s->width; from += INTERP_SEGMENT)
            code_segment(j, &pass, row, from, s->width - from < INTERP_SEGMENT ? s->width - from : INTERP_SEGMENT);
    }
}

/* The first value: a residual like the others, of prediction 0. */
static void code_anchor(interp_job *j)
{
    const interp_kernels *k = j->walk.k;
    uint8_t *known = interp_anchor(&j->walk), class = 0;
    uint64_t zero = 0;
    j->anchor = 0;
    if (k->quantize(&j->z, (const uint8_t *)&j->first, (const uint8_t *)&zero, 1, &j->anchor, known, &class) &&
        class != INTERP_SKIPPED)
        settle(j, 0, (const uint8_t *)&zero, &j->anchor, known);
    interp_begin_values(&j->walk);
}

static void set_step(interp_job *j, unsigned level)
{
    j->z.step = interp_step(&j->plan, level, j->h->step, j->walk.k->bytes);
    j->z.inverse = 1 / j->z.step;
}

/* From the finest level up each step is 4/5 of the one below, but not under half of the frame's (QoZ, Liu et al. 2022).
 * Where nearly all residuals are 0, errors of coarse values live on in all that they predict. */
static void refine_coarse_levels(interp_job *j)
{
    unsigned factor = INTERP_FACTOR;
    for (unsigned level = 0; level < j->plan.levels; level++) {
        j->plan.factor[level] = (uint8_t)(factor < INTERP_FACTOR / 2 ? INTERP_FACTOR / 2 : factor);
        factor = factor * 4 / 5;
    }
    j->factored = true;
    for (size_t i = 0; j->refusals && i < j->t->count; i++) {
        j->refusals -= j->refused[i] == TOO_FAR;
        j->refused[i] &= NOT_FINITE;
    }
}

static bool nearly_all_zero(const int32_t *q, size_t n)
{
    size_t others = 0;
    for (size_t i = 0; i < n; i++)
        others += q[i] != 0;
    return others * FEW_OTHERS < n;
}

/* Before the finest level: whether smaller steps for the others pay. */
static bool refinement_pays(const interp_job *j, unsigned stage, size_t level_start)
{
    const interp_stage *s = j->plan.stages + stage;
    return s->level == 0 && j->plan.levels > 1 && !j->factored && j->unit == 0 && s->before > LEAST_TOLD &&
           nearly_all_zero(j->q + level_start, s->before - level_start);
}

/* All stages; before the finest level it may start anew with smaller steps for the others. */
static void code_stages(interp_job *j)
{
    size_t level_start = 0;
    set_step(j, j->plan.levels ? j->plan.levels - 1 : 0);
    code_anchor(j);
    for (unsigned i = 0; i < j->plan.count; i++) {
        const interp_stage *s = j->plan.stages + i;
        bool new_level = i == 0 || s->level != s[-1].level;
        if (new_level && refinement_pays(j, i, level_start)) {
            refine_coarse_levels(j);
            code_stages(j);
            return;
        }
        level_start = new_level ? s->before : level_start;
        interp_begin_stage(&j->walk, s);
        set_step(j, s->level);
        code_stage(j, j->stages + i);
        if (i + 1 < j->plan.count)
            interp_end_stage(&j->walk);
    }
}

/* The tile's values share memory with what is known: they are sorted before any is. */
static void take_buffers(interp_job *j, uint8_t *scratch)
{
    size_t n = (size_t)j->t->count;
    j->refused = take(&scratch, n);
    j->q = take(&scratch, n * 4);
    j->classes = take(&scratch, n + INTERP_GAP);
    j->bits = take(&scratch, (n + 7) / 8);
    j->empty = take(&scratch, n);
    j->rest = scratch;
    interp_walk_begin(&j->walk, j->t, is_double(j->h), j->isa, &scratch);
    j->coming = take(&scratch, n * j->walk.k->bytes);
    j->work = scratch;
    j->x = j->walk.known;
}

interp_job *interp_run(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *values,
                       uint8_t **scratch)
{
    interp_job *j = take(scratch, sizeof *j);
    j->h = h;
    j->t = t;
    j->values = values;
    j->isa = isa_resolve(options->isa);
    j->coder = options->coder;
    take_buffers(j, *scratch);
    j->factored = false;
    j->refusals = 0;
    j->unit = interp_unit(h, j->walk.k->bytes);
    j->z = (interp_quantizer){.dtype = h->dtype, .eps = is_double(h) ? h->eps : (double)float_below(h->eps)};
    const uint8_t *elements;
    j->z.zeros = load_tile(j, &elements) >= MANY_ZEROS + (size_t)t->count / RARE_ZEROS;
    if (j->z.zeros) {
        j->walk.k->find_zeros(elements, (size_t)t->count, j->coming);
        interp_zeros_pack(t, j->coming, j->bits);
    }
    j->order = options->backward ? INTERP_BACKWARD : INTERP_FORWARD;
    interp_plan_make(t, j->order, &j->plan);
    memcpy(&j->first, elements, j->walk.k->bytes);
    interp_sort(&j->plan, j->walk.k->unweave, j->walk.k->bytes, elements, j->x, j->coming);
    code_stages(j);
    *scratch = j->rest;
    return j;
}

const uint8_t *interp_refused(const interp_job *j) { return j->refusals ? j->refused : NULL; }
