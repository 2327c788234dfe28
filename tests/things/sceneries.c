/* What is behind the things. */
#include "tests/things/things.h"

#define PLAIN(color)                                                                               \
    SCENERY_PLAIN, DETAIL_NONE, color, {"on a " color " background", "on " color},                 \
        "a " color " background with"
#define GRADIENT(top, bottom)                                                                      \
    SCENERY_GRADIENT, DETAIL_NONE, top " to " bottom,                                              \
        {"on a background fading from " top " to " bottom,                                         \
         "on a " top " and " bottom " gradient"},                                                  \
        "a background fading from " top " to " bottom " with"
const struct scenery sceneries[SCENERIES] = {
    {PLAIN("white"), {{246, 246, 243}}},
    {PLAIN("gray"), {{158, 163, 170}}},
    {PLAIN("black"), {{38, 40, 47}}},
    {PLAIN("pink"), {{249, 190, 210}}},
    {PLAIN("yellow"), {{252, 229, 138}}},
    {PLAIN("green"), {{163, 217, 155}}},
    {PLAIN("blue"), {{141, 190, 240}}},
    {PLAIN("purple"), {{183, 156, 224}}},
    {GRADIENT("blue", "pink"), {{134, 186, 240}, {196, 192, 226}, {250, 196, 214}}},
    {GRADIENT("yellow", "green"), {{252, 236, 158}, {206, 222, 150}, {146, 204, 142}}},
    {SCENERY_GRADIENT,
     DETAIL_NONE,
     "sunset",
     {"at sunset", "in the sunset"},
     "a sunset with",
     {{118, 88, 160}, {238, 138, 130}, {254, 204, 116}}},
    {SCENERY_GROUND,
     DETAIL_NONE,
     "grass",
     {"on the grass", "in a meadow"},
     "a meadow with",
     {{126, 190, 244}, {206, 231, 250}, {142, 202, 96}, {104, 170, 74}}},
    {SCENERY_GROUND,
     DETAIL_NONE,
     "sand",
     {"on the sand", "in the desert"},
     "a desert with",
     {{150, 208, 236}, {240, 234, 210}, {240, 212, 150}, {222, 184, 116}}},
    {SCENERY_GROUND,
     DETAIL_FLAKES,
     "snow",
     {"in the snow", "on the snow"},
     "a snowy field with",
     {{146, 172, 204}, {196, 210, 226}, {248, 250, 253}, {222, 232, 243}}},
    {SCENERY_GROUND,
     DETAIL_STARS,
     "night",
     {"at night", "under the stars"},
     "a starry night with",
     {{18, 20, 58}, {50, 54, 112}, {38, 54, 66}, {24, 36, 46}}},
    {SCENERY_GROUND,
     DETAIL_WAVES,
     "water",
     {"on the water", "at sea"},
     "the sea with",
     {{168, 214, 246}, {226, 241, 250}, {70, 152, 206}, {34, 104, 168}}},
};
