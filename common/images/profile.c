#include <stdlib.h>
#include <string.h>

#include <lcms2.h>

#include "common/images/prepare_steps.h"

/* Whether an RGB transform moves no color of a grid by more than one level. Most profiles found in
 * files are sRGB itself, for which the transform can be skipped. */
static bool changes_nothing(cmsHTRANSFORM transform, int channels)
{
    enum { STEPS = 18 };
    uint8_t in[STEPS * 4], out[STEPS * 4];
    for (int r = 0; r < STEPS; r++)
        for (int g = 0; g < STEPS; g++) {
            for (int b = 0; b < STEPS; b++) {
                uint8_t color[4] = {(uint8_t)(r * 15), (uint8_t)(g * 15), (uint8_t)(b * 15), 255};
                memcpy(in + b * channels, color, (size_t)channels);
            }
            cmsDoTransform(transform, in, out, STEPS);
            for (int i = 0; i < STEPS * channels; i++)
                if (abs(in[i] - out[i]) > 1)
                    return false;
        }
    return true;
}

static int transform_pixels(struct image *image, cmsHTRANSFORM transform, struct error *e)
{
    cmsUInt32Number pixels = (cmsUInt32Number)image->width * (cmsUInt32Number)image->height;
    if (image->color == IMAGE_RGB) {
        if (!changes_nothing(transform, image->channels))
            cmsDoTransform(transform, image->pixels, image->pixels, pixels);
        return 0;
    }
    struct image out;
    if (prepare_begin(&out, image, image->alpha ? 4 : 3, e) != 0)
        return -1;
    cmsDoTransform(transform, image->pixels, out.pixels, pixels);
    prepare_finish(image, &out);
    return 0;
}

int prepare_profile(struct image *image, struct error *e)
{
    cmsHPROFILE profile = cmsOpenProfileFromMem(image->icc, (cmsUInt32Number)image->icc_size);
    if (!profile)
        return 0;
    int status = 0;
    cmsColorSpaceSignature space = cmsGetColorSpace(profile);
    if (space == cmsSigRgbData && image->color == IMAGE_GRAY)
        status = prepare_gray_to_rgb(image, e);
    cmsUInt32Number type = image->color == IMAGE_GRAY   ? TYPE_GRAY_8
                           : image->color == IMAGE_CMYK ? TYPE_CMYK_8
                                                        : TYPE_RGB_8;
    cmsColorSpaceSignature wanted = image->color == IMAGE_GRAY   ? cmsSigGrayData
                                    : image->color == IMAGE_CMYK ? cmsSigCmykData
                                                                 : cmsSigRgbData;
    if (status == 0 && space == wanted) {
        cmsUInt32Number extra = image->alpha ? EXTRA_SH(1) : 0;
        cmsHPROFILE srgb = cmsCreate_sRGBProfile();
        cmsHTRANSFORM transform =
            cmsCreateTransform(profile, type | extra, srgb, TYPE_RGB_8 | extra, INTENT_PERCEPTUAL,
                               extra ? cmsFLAGS_COPY_ALPHA : 0);
        if (transform) {
            status = transform_pixels(image, transform, e);
            cmsDeleteTransform(transform);
        }
        cmsCloseProfile(srgb);
    }
    cmsCloseProfile(profile);
    return status;
}

/* As Pillow's convert: L*a*b* of D50, perceptual intent. */
int prepare_lab(struct image *image, struct error *e)
{
    cmsHPROFILE lab = cmsCreateLab2Profile(NULL), srgb = cmsCreate_sRGBProfile();
    cmsHTRANSFORM transform =
        cmsCreateTransform(lab, TYPE_Lab_8, srgb, TYPE_RGB_8, INTENT_PERCEPTUAL, 0);
    int status = transform ? 0 : error_set(e, "cannot convert L*a*b* colors");
    if (transform) {
        cmsDoTransform(transform, image->pixels, image->pixels,
                       (cmsUInt32Number)image->width * (cmsUInt32Number)image->height);
        cmsDeleteTransform(transform);
    }
    cmsCloseProfile(srgb);
    cmsCloseProfile(lab);
    image->color = IMAGE_RGB;
    return status;
}
