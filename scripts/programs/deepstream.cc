// Calls DeepStream's stock parser, NvDsInferParseCustomTfSSD, as nvinfer does: layers by name, without the batch.
#include "nvdsinfer_custom_impl.h"

extern "C" bool NvDsInferParseCustomTfSSD(std::vector<NvDsInferLayerInfo> const &, NvDsInferNetworkInfo const &,
                                          NvDsInferParseDetectionParams const &,
                                          std::vector<NvDsInferObjectDetectionInfo> &);

static NvDsInferLayerInfo layer(const char *name, float *buffer, unsigned rows, unsigned columns) {
    NvDsInferLayerInfo info{};
    info.dataType = FLOAT;
    info.inferDims.numDims = columns ? 2 : 1;
    info.inferDims.d[0] = rows;
    info.inferDims.d[1] = columns;
    info.inferDims.numElements = rows * (columns ? columns : 1);
    info.layerName = name;
    info.buffer = buffer;
    return info;
}

// found: room for `rows` times left, top, width, height, confidence, class. Returns their number, -1 for an error.
extern "C" int edgedet_parse(float *number, float *boxes, float *scores, float *classes, unsigned rows, unsigned width,
                             unsigned height, unsigned num_classes, float threshold, float *found) {
    std::vector<NvDsInferLayerInfo> layers{layer("num_detections", number, 1, 0), layer("detection_boxes", boxes, rows, 4),
                                           layer("detection_scores", scores, rows, 0),
                                           layer("detection_classes", classes, rows, 0)};
    NvDsInferNetworkInfo network{width, height, 3};
    NvDsInferParseDetectionParams params;
    params.numClassesConfigured = num_classes;
    params.perClassPreclusterThreshold.assign(num_classes, threshold);
    params.perClassPostclusterThreshold.assign(num_classes, 0.0f);
    std::vector<NvDsInferObjectDetectionInfo> objects;
    if (!NvDsInferParseCustomTfSSD(layers, network, params, objects)) return -1;
    for (size_t at = 0; at < objects.size(); ++at) {
        const NvDsInferObjectDetectionInfo &o = objects[at];
        const float row[] = {o.left, o.top, o.width, o.height, o.detectionConfidence, float(o.classId)};
        std::copy(row, row + 6, found + 6 * at);
    }
    return int(objects.size());
}
