/* What rounding.py does: codes chosen as they are coded, each by what its error and its bits cost. */
#pragma once

#include "questions.h"

typedef struct {
    const float *costs;          /* bits of an answer by its probability, of 4096 */
    float *weights;              /* filters x inputs, in steps; changed: errors go on to later weights */
    const float *input_feedback; /* inputs x inputs: what of the error of one weight later ones take over; or none */
    const float *row_feedback;   /* filters x filters: what of the errors of one filter later ones take over; or none */
    const float *input_cost;     /* inputs: what a square error of one step costs once the later ones have done so */
    const float *row_cost;       /* filters: by what that is multiplied, in bits */
    const uint8_t *pruned;       /* filters x inputs: the weights that stay zero, 1 for each */
    int32_t largest;             /* magnitude of a code */
} rounding_t;

static float bits_of(mixer_t *mixer, const means_t *means, int value, int expected, int64_t position, int64_t place,
                     const int *contexts, const neighbours_t *near) {
    way_t way = {COSTING, INPUTS, SIGN_INPUTS};
    int sign[SIGN_INPUTS];
    uint32_t magnitude = (uint32_t)abs(value);
    mixer->coder.bits = 0;
    code_magnitude(mixer, way, magnitude, expected, position, contexts, 0);
    if (magnitude) {
        sign_contexts(sign, means, place, magnitude, near);
        code_mixed(mixer, COSTING, value < 0, SIGN, sign, SIGN_INPUTS, SIGN);
    }
    return mixer->coder.bits;
}

/* The code of a weight: of the nearest one, the next towards zero and zero that whose error and bits cost least. */
static int chosen_code(mixer_t *mixer, const means_t *means, const int32_t *value, const geometry_t *geometry,
                       const int32_t *share, int64_t filter, int64_t channel, int64_t position, float weight,
                       float price, int largest) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    float limited = weight > largest ? largest : weight > -largest ? weight : -largest;  /* NaN is in range, too */
    int contexts[INPUTS], nearest = (int)(limited + (limited < 0 ? -0.5f : 0.5f));
    if (!nearest) return 0;
    int64_t column = position % geometry->width;
    neighbours_t near = neighbours_of(value, filter, size, place, column, position, geometry, means->wide);
    int expected = expected_magnitude(means, share, channel, place, &near);
    magnitude_contexts(contexts, means, place, expected, &near);
    int candidates[3] = {nearest, nearest - (nearest > 0) + (nearest < 0), 0}, best = 0;
    float least = 0;
    for (int i = 0; i < 3 && (i < 2 || candidates[1]); i++) {
        float error = weight - (float)candidates[i];
        float cost = price * error * error
                   + bits_of(mixer, means, candidates[i], expected, position, place, contexts, &near);
        if (!i || cost < least) {
            least = cost;
            best = candidates[i];
        }
    }
    return best;
}

static void feed_back(float *weights, const float *feedback, float error, int64_t count) {
    for (int64_t i = 0; i < count; i++) weights[i] += error * feedback[i];
}

/* What a filter lost of ``wanted`` goes on to the filters after it. */
static void hand_on(const rounding_t *rounding, float *wanted, const int32_t *codes, int64_t filter,
                    const geometry_t *geometry) {
    int64_t inputs = geometry->channels * geometry->positions;
    for (int64_t place = 0; place < inputs; place++) wanted[place] -= (float)codes[place];
    for (int64_t later = filter + 1; later < geometry->filters; later++) {
        float share = rounding->row_feedback[filter * geometry->filters + later];
        float *weights = rounding->weights + later * inputs;
        for (int64_t place = 0; place < inputs; place++) weights[place] += share * wanted[place];
    }
}

/* As encode_values, of codes that it chooses one after the other, as coded with what was learned so far, by all
 * contexts: the settings are not to ask for few. */
int64_t round_values(int32_t *codes, const geometry_t *geometry, const settings_t *settings, const tables_t *tables,
                     uint8_t *content, int64_t length, rounding_t *rounding) {
    mixer_t *mixer = new_mixer(tables, settings);
    means_t means = {0};
    way_t way = {ENCODING, INPUTS, SIGN_INPUTS};
    int64_t inputs = geometry->channels * geometry->positions;
    float *wanted = malloc(inputs * sizeof(float));
    int whole = mixer && wanted && new_means(&means, geometry, settings->mean);
    if (mixer) {
        mixer->coder.content = content;
        mixer->coder.length = length;
        mixer->coder.costs = rounding->costs;
    }
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        begin_row(&means, settings->mean);
        float *weights = rounding->weights + filter * inputs;
        memcpy(wanted, weights, inputs * sizeof(float));
        for (int64_t place = 0; place < inputs; place++, codes++) {
            int64_t channel = place / geometry->positions, position = place % geometry->positions;
            if (!position) means.map = means.channel[channel];
            float price = rounding->row_cost[filter] * rounding->input_cost[place];
            int stays = rounding->pruned[filter * inputs + place];
            *codes = stays ? 0 : chosen_code(mixer, &means, codes, geometry, settings->share, filter, channel, position,
                                             weights[place], price, rounding->largest);
            float error = weights[place] - (float)*codes;
            code_value(mixer, &means, way, codes, geometry, settings->share, filter, channel, position,
                       position % geometry->width, 0);
            if (error != 0 && rounding->input_feedback)
                feed_back(weights + place + 1, rounding->input_feedback + place * inputs + place + 1, error,
                          inputs - place - 1);
        }
        if (rounding->row_feedback) hand_on(rounding, wanted, codes - inputs, filter, geometry);
    }
    int64_t result = NO_MEMORY;
    if (whole) {
        finish(&mixer->coder);
        result = mixer->coder.no_room ? NO_ROOM : mixer->coder.position;
    }
    free_means(&means);
    free(wanted);
    free(mixer);
    return result;
}
