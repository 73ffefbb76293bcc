/* What questions.py does, and says why. */
#pragma once

#include "model.h"

enum { INPUTS = 6, FEW_INPUTS = 3, FEW_SIGN_INPUTS = 2 };
enum { CELLS = 512, QUESTIONS = 64, CHOICES = QUESTIONS + 32 };
enum { APART = 80 }; /* keeps inputs from the same lines of the cache, which distances of a power of two share */
enum { UPWARD = 16, DOWNWARD = 32, GROUP = 46, SIGN = 47, SECOND_BIT = 48, EXPECTED_SIZES = 8 };
enum { WHOLE_MAP = 25, GROUP_LENGTH = 8, HEAVIEST = 1 << 18, MIXED = 1536 };

typedef struct {
    range_coder_t coder;
    tables_t tables;
    int32_t rate;
    uint32_t cells[INPUTS][CELLS * QUESTIONS + APART];
    uint32_t plain[QUESTIONS];
    int32_t weights[CHOICES][INPUTS];
    int32_t coded[CHOICES];
} mixer_t;

/* How values are coded: constants, so that loops over inputs are unrolled, and contexts that nobody asks left out. */
typedef struct {
    int mode, inputs, sign_inputs;
} way_t;

/* ---- the mixer ---- */

/* With a constant bit, so that the next prediction need not wait until the bit is known. */
ALWAYS_INLINE void adapt(mixer_t *mixer, int bit, int32_t probability, uint32_t **cells, const int32_t *seen,
                         int inputs, int choice) {
    int32_t *weights = mixer->weights[choice];
    int32_t step = (((bit << 16) - probability) * (mixer->rate + ((4096 - mixer->coded[choice]) >> 8))) >> 4;
    mixer->coded[choice] += mixer->coded[choice] < 4096;
    for (int i = 0; i < inputs; i++) {
        weights[i] = clamp_seldom(weights[i] + ((seen[i] * step + (1 << 13)) >> 14), -HEAVIEST, HEAVIEST);
        learn(cells[i], bit, mixer->tables.reciprocal);
    }
}

ALWAYS_INLINE int code_mixed(mixer_t *mixer, int mode, int bit, int question, const int *contexts, int inputs,
                             int choice) {
    int32_t *weights = mixer->weights[choice], seen[INPUTS];
    uint32_t *cells[INPUTS];
    int32_t total = 1 << 15;
    for (int i = 0; i < inputs; i++) {
        cells[i] = &mixer->cells[i][question * CELLS + contexts[i]];
        seen[i] = mixer->tables.stretch[*cells[i] >> 20];
        total += weights[i] * seen[i];
    }
    total >>= 16;
    total = clamp_seldom(total, -MIXED, MIXED - 1);
    int32_t probability = mixer->tables.squash[total + MIXED];
    bit = code_bit(&mixer->coder, mode, bit, (uint32_t)probability);
    if (mode == COSTING) return bit;
    if (bit) adapt(mixer, 1, probability, cells, seen, inputs, choice);
    else adapt(mixer, 0, probability, cells, seen, inputs, choice);
    return bit;
}

ALWAYS_INLINE int code_plainly(mixer_t *mixer, int mode, int bit, int context) {
    uint32_t probability = mixer->plain[context] >> 16;
    probability = probability < 32 ? 32 : probability > 65504 ? 65504 : probability;
    bit = code_bit(&mixer->coder, mode, bit, probability);
    if (mode != COSTING) learn(&mixer->plain[context], bit, mixer->tables.reciprocal);
    return bit;
}

static mixer_t *new_mixer(const tables_t *tables, const settings_t *settings) {
    int inputs = settings->few ? FEW_INPUTS : INPUTS, sign_inputs = settings->few ? FEW_SIGN_INPUTS : SIGN_INPUTS;
    mixer_t *mixer = calloc(1, sizeof *mixer);
    if (!mixer) return NULL;
    mixer->tables = *tables;
    mixer->rate = settings->rate;
    mixer->coder.width = UINT64_MAX;
    for (int i = 0; i < inputs; i++) {
        for (int j = 0; j < CELLS * QUESTIONS; j++) mixer->cells[i][j] = (uint32_t)1 << 31;
        for (int j = 0; j < CHOICES; j++) mixer->weights[j][i] = j == SIGN ? 65536 / sign_inputs : 78642 / inputs;
    }
    for (int i = 0; i < QUESTIONS; i++) mixer->plain[i] = (uint32_t)1 << 31;
    return mixer;
}

ALWAYS_INLINE void magnitude_contexts(int *contexts, const means_t *means, int64_t place, int expected,
                                      const neighbours_t *near) {
    int left = abs(near->left), up = abs(near->up), here = magnitude_level(means->place[place]);
    contexts[0] = clamped_level(expected, 2, 6, 63);
    contexts[1] = ((smaller(left, 2) * 3 + smaller(up, 2)) * 3 + smaller(abs(near->behind), 2)) * 3
                + smaller(abs(near->before), 2);
    contexts[2] = here * 20 + magnitude_level(means->row);
    contexts[3] = magnitude_level(means->local) * 20 + here;
    contexts[4] = magnitude_level(means->map) * 20 + magnitude_level((left + up) * 128);
    contexts[5] = 0;
}

/* ---- values ---- */

ALWAYS_INLINE int code_size(mixer_t *mixer, way_t way, int size, int expected, int64_t position,
                            const int *contexts, int least) {
    int asked = smaller(bit_length((uint32_t)((3 * (int64_t)expected) >> 10)), EXPECTED_SIZES);
    int choice = asked ? asked : QUESTIONS + (int)(position < 31 ? position : 31);
    if (asked < least || code_mixed(mixer, way.mode, size > asked, asked, contexts, way.inputs, choice)) {
        for (asked++; asked < 32; asked++) {
            int question = UPWARD + smaller(asked, 15);
            if (!code_mixed(mixer, way.mode, size > asked, question, contexts, way.inputs, question)) break;
        }
    } else {
        for (; asked > least; asked--) {
            int question = DOWNWARD + asked;
            if (code_mixed(mixer, way.mode, size > asked - 1, question, contexts, way.inputs, question)) break;
        }
    }
    return asked;
}

ALWAYS_INLINE uint32_t code_magnitude(mixer_t *mixer, way_t way, uint32_t magnitude, int expected, int64_t position,
                                      const int *contexts, int least) {
    int size = code_size(mixer, way, bit_length(magnitude), expected, position, contexts, least);
    if (size < 2) return (uint32_t)size;
    int question = SECOND_BIT + smaller(size, 15);
    int second = code_mixed(mixer, way.mode, magnitude >> (size - 2) & 1, question, contexts, way.inputs, question);
    uint32_t coded = 2 | second;
    if (size > 2) {
        int context = smaller(size, 15) * 2 + (coded & 1);
        coded = coded * 2 | code_plainly(mixer, way.mode, magnitude >> (size - 3) & 1, context);
    }
    for (int place = size - 4; place >= 0; place--)
        coded = coded * 2 | code_bit(&mixer->coder, way.mode, magnitude >> place & 1, 1 << 15);
    return coded;
}

/* One value, whose magnitude is known to be at least 0 or 1; 0 when the content is damaged. */
ALWAYS_INLINE int code_value(mixer_t *mixer, means_t *means, way_t way, int32_t *value, const geometry_t *geometry,
                             const int32_t *share, int64_t filter, int64_t channel, int64_t position, int64_t column,
                             int least) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    int contexts[INPUTS], negative = 0;
    neighbours_t near = neighbours_of(value, filter, size, place, column, position, geometry, means->wide);
    int expected = expected_magnitude(means, share, channel, place, &near);
    magnitude_contexts(contexts, means, place, expected, &near);
    uint32_t magnitude = *value < 0 ? 0 - (uint32_t)*value : (uint32_t)*value;
    magnitude = code_magnitude(mixer, way, magnitude, expected, position, contexts, least);
    if (magnitude) {
        sign_contexts(contexts, means, place, magnitude, &near);
        negative = code_mixed(mixer, way.mode, *value < 0, SIGN, contexts, way.sign_inputs, SIGN);
    }
    if (magnitude > ((uint32_t)1 << 31) - !negative) return 0;
    if (way.mode == DECODING) *value = (int32_t)(negative ? 0 - magnitude : magnitude);
    update(means, *value, magnitude, filter, channel, position, geometry->positions, place, mixer->tables.reciprocal);
    return way.mode != DECODING || mixer->coder.position <= mixer->coder.length + FLUSHED;
}

ALWAYS_INLINE int64_t group_length(const geometry_t *geometry, const settings_t *settings) {
    return settings->grouped && geometry->positions > WHOLE_MAP ? GROUP_LENGTH : geometry->positions;
}

ALWAYS_INLINE int nonzeros(const int32_t *values, int64_t count) {
    int found = 0;
    for (int64_t i = 0; i < count; i++) found += values[i] != 0;
    return found;
}

/* Whether a group holds anything but zeros. */
ALWAYS_INLINE int code_presence(mixer_t *mixer, means_t *means, way_t way, const int32_t *values,
                                const geometry_t *geometry, const settings_t *settings, int64_t filter,
                                int64_t channel, int64_t begin, int64_t count) {
    static const neighbours_t none = {0, 0, 0, 0, 0};
    int64_t place = channel * geometry->positions + begin, size = geometry->channels * geometry->positions, sum = 0;
    for (int64_t i = 0; i < count; i++) sum += means->place[place + i];
    int here = magnitude_level((int)(sum / count)), length = (int)group_length(geometry, settings);
    int before = filter ? smaller(nonzeros(values - size, count), 7) : 0;
    int behind = place >= length ? smaller(nonzeros(values - length, count), 7) : 0;
    int expected = expected_magnitude(means, settings->share, channel, place + count / 2, &none);
    int contexts[INPUTS] = {
        clamped_level(expected, 2, 6, 63), before * 8 + behind, here * 20 + magnitude_level(means->row),
        magnitude_level(means->local) * 20 + here,
        magnitude_level(means->map) * 20 + means->groups + 2 * smaller(behind, 5), 0};
    int any = way.mode != DECODING && nonzeros(values, count);
    any = code_mixed(mixer, way.mode, any, GROUP, contexts, way.inputs, GROUP);
    means->groups = (means->groups * 2 + any) & 7;
    return any;
}

/* What update does with zeros, but that the local mean falls as if the group were one of them. */
ALWAYS_INLINE void update_zeros(means_t *means, int64_t filter, int64_t channel, int64_t begin, int64_t count,
                                int64_t positions, const uint16_t *reciprocal) {
    int32_t local = means->local - (means->local >> 2);
    for (int64_t i = begin; i < begin + count; i++)
        update(means, 0, 0, filter, channel, i, positions, channel * positions + i, reciprocal);
    means->local = local;
}

/* Values that follow each other; 0 when the content is damaged. */
ALWAYS_INLINE int code_group(mixer_t *mixer, means_t *means, way_t way, int32_t *values, const geometry_t *geometry,
                             const settings_t *settings, int64_t filter, int64_t channel, int64_t begin,
                             int64_t count) {
    int some = !settings->grouped;
    if (!some && !code_presence(mixer, means, way, values, geometry, settings, filter, channel, begin, count)) {
        update_zeros(means, filter, channel, begin, count, geometry->positions, mixer->tables.reciprocal);
        return way.mode != DECODING || mixer->coder.position <= mixer->coder.length + FLUSHED;
    }
    for (int64_t i = 0, column = begin % geometry->width; i < count; i++) {
        int least = !some && i == count - 1; /* the last of a group that is not all zero */
        if (!code_value(mixer, means, way, values + i, geometry, settings->share, filter, channel, begin + i, column,
                        least)) return 0;
        some |= values[i] != 0;
        column = column + 1 < geometry->width ? column + 1 : 0;
    }
    return 1;
}

ALWAYS_INLINE int64_t code_values(mixer_t *mixer, way_t way, int32_t *values, const geometry_t *geometry,
                                  const settings_t *settings) {
    means_t means;
    int whole = new_means(&means, geometry, settings->mean);
    int64_t result = whole ? 0 : NO_MEMORY, length = group_length(geometry, settings);
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        begin_row(&means, settings->mean);
        for (int64_t channel = 0; whole && channel < geometry->channels; channel++) {
            means.map = means.channel[channel];
            for (int64_t begin = 0; whole && begin < geometry->positions; begin += length) {
                int64_t count = begin + length < geometry->positions ? length : geometry->positions - begin;
                whole = code_group(mixer, &means, way, values, geometry, settings, filter, channel, begin, count);
                values += count;
                if (!whole) result = DAMAGED;
            }
        }
    }
    free_means(&means);
    return result;
}

ALWAYS_INLINE int64_t code_all_or_few(mixer_t *mixer, int mode, int32_t *values, const geometry_t *geometry,
                                      const settings_t *settings) {
    way_t all = {mode, INPUTS, SIGN_INPUTS}, few = {mode, FEW_INPUTS, FEW_SIGN_INPUTS};
    return settings->few ? code_values(mixer, few, values, geometry, settings)
                         : code_values(mixer, all, values, geometry, settings);
}

/* How many bytes it wrote into content, or NO_ROOM for them, or NO_MEMORY. */
int64_t encode_values(const int32_t *values, const geometry_t *geometry, const settings_t *settings,
                      const tables_t *tables, uint8_t *content, int64_t length) {
    mixer_t *mixer = new_mixer(tables, settings);
    if (!mixer) return NO_MEMORY;
    mixer->coder.content = content;
    mixer->coder.length = length;
    int64_t result = code_all_or_few(mixer, ENCODING, (int32_t *)values, geometry, settings);
    if (!result) {
        finish(&mixer->coder);
        result = mixer->coder.no_room ? NO_ROOM : mixer->coder.position;
    }
    free(mixer);
    return result;
}

/* 0, or DAMAGED, or NO_MEMORY. */
int64_t decode_values(int32_t *values, const geometry_t *geometry, const settings_t *settings, const tables_t *tables,
                      const uint8_t *content, int64_t length) {
    mixer_t *mixer = new_mixer(tables, settings);
    if (!mixer) return NO_MEMORY;
    mixer->coder.content = (uint8_t *)content;
    mixer->coder.length = length;
    mixer->coder.word = (uint64_t)read_word(&mixer->coder) << 32;
    mixer->coder.word |= read_word(&mixer->coder);
    int64_t result = code_all_or_few(mixer, DECODING, values, geometry, settings);
    if (!result && mixer->coder.position < length) result = DAMAGED;
    free(mixer);
    return result;
}
