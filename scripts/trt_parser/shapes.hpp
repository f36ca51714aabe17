// Shapes, types and values of the simulated layers' outputs, by the rules that NvInfer.h documents for each of them.
#pragma once
#include "network.hpp"

int64_t volume(Dims const& dims); // -1 where a dimension is open
bool same(Dims const& a, Dims const& b);
std::string text(Dims const& dims);
Dims broadcast(LayerPart const& layer, Dims const& a, Dims const& b);

Dims convolution_shape(LayerPart const& layer, Convolution const& settings);
Dims pooling_shape(LayerPart const& layer, Pooling const& settings);
Dims concatenation_shape(LayerPart const& layer, int axis);
Dims gather_shape(LayerPart const& layer, StoredGatherLayer const& settings);
Dims quantiser_shape(LayerPart const& layer, int axis);
Dims reduce_shape(LayerPart const& layer, StoredReduceLayer const& settings);
Dims resize_shape(LayerPart const& layer, Resize const& settings);
Dims shuffle_shape(LayerPart const& layer, Shuffle const& settings);
Dims slice_shape(LayerPart const& layer, StoredSliceLayer const& settings);
Dims top_k_shape(LayerPart const& layer, StoredTopKLayer const& settings);

Values constant_values(StoredConstantLayer const& settings);
Values concatenation_values(LayerPart const& layer);
Values elementwise_values(LayerPart const& layer, ElementWiseOperation op);
Values gather_values(LayerPart const& layer, StoredGatherLayer const& settings);
Values shape_values(LayerPart const& layer);
Values slice_values(LayerPart const& layer, StoredSliceLayer const& settings);
