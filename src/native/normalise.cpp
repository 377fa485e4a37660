// Compiled once for each instruction set, and so that no product is fused with a sum: NumPy rounds
// after each, and where there is no compiler it is NumPy that does this.
#include "normalise.hpp"

namespace committee::COMMITTEE_ISA {

template <int given, int channels, bool backwards>
static void pixels(const Bytes &in, const uint8_t *__restrict from, float *__restrict out) {
    const int64_t count = in.pixels;
    float scale[channels], shift[channels]; // of its own, so that writing cannot change them
    for (int c = 0; c < channels; ++c) scale[c] = in.scale[c], shift[c] = in.shift[c];
    for (int64_t i = 0; i < count; ++i)
        for (int c = 0; c < channels; ++c) {
            const int source = given == 1 ? 0 : backwards ? channels - 1 - c : c;
            out[c * count + i] = float(from[i * given + source]) * scale[c] + shift[c];
        }
}

void normalise(const Bytes &in, float *out) {
    auto *image = in.channels == 1 ? pixels<1, 1, false>
                    : in.given == 1  ? pixels<1, 3, false>
                    : in.backwards    ? pixels<3, 3, true>
                                     : pixels<3, 3, false>;
    for (int64_t n = 0; n < in.images; ++n)
        image(in, in.data + n * in.pixels * in.given, out + n * in.pixels * in.channels);
}

} // namespace committee::COMMITTEE_ISA
