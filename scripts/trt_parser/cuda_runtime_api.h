// Stands in for CUDA's header, of which NvInfer.h needs two types. No function of CUDA is called here.
#pragma once
#include <cstddef>
#include <cstdint>
typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
