// What the classes that interface.py writes are made of: JSON, watched settings, and refusals.
#pragma once
#include "NvInfer.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <type_traits>
#include <unistd.h>
#include <vector>

// Exit codes, which check_trt_parser.py reads.
constexpr int kNotSimulated = 3; // the parser asked for something that this simulation does not have
constexpr int kBadNetwork = 4;   // the parser made a network that breaks a rule of TensorRT's documentation

[[noreturn]] inline void end(int code, std::string const& line)
{
    std::fprintf(stderr, "%s\n", line.c_str());
    std::fflush(stderr);
    _exit(code); // TensorRT's functions are noexcept, so that nothing can be thrown through the parser
}

[[noreturn]] inline void refuse(std::string const& function)
{
    end(kNotSimulated, function + " is not simulated");
}

// A JSON object, written field by field; weights go into a file of their own.
class Json
{
public:
    explicit Json(std::FILE* weights) : mWeights(weights) {}

    template <class T> void field(char const* name, T const& value)
    {
        mText << (mText.tellp() > 0 ? ", " : "") << '"' << name << "\": ";
        put(value);
    }
    std::string object() const { return "{" + mText.str() + "}"; }

    static std::string quoted(std::string const& text)
    {
        std::string out = "\"";
        for (unsigned char const c : text)
        {
            char escaped[8];
            if (c == '"' || c == '\\' || c < ' ' || c > '~')
                std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
            else
                std::snprintf(escaped, sizeof escaped, "%c", c);
            out += escaped;
        }
        return out + "\"";
    }

private:
    void put(std::string const& value) { mText << quoted(value); }
    void put(nvinfer1::Dims const& value)
    {
        mText << '[';
        for (int i = 0; i < value.nbDims; ++i)
            mText << (i ? ", " : "") << value.d[i];
        mText << ']';
    }
    void put(nvinfer1::Permutation const& value)
    {
        mText << '[';
        for (int i = 0; i < nvinfer1::Dims::MAX_DIMS; ++i)
            mText << (i ? ", " : "") << value.order[i];
        mText << ']';
    }
    void put(nvinfer1::Weights const& value)
    {
        static int const kBytes[] = {4, 2, 1, 4, 1, 1, 1}; // of DataType's values
        mText << "{\"type\": " << int(value.type) << ", \"count\": " << value.count << ", \"at\": "
              << std::ftell(mWeights) << "}";
        if (value.count > 0)
            std::fwrite(value.values, kBytes[int(value.type)], value.count, mWeights);
    }
    template <class T> void put(std::vector<T> const& values)
    {
        mText << '[';
        for (size_t i = 0; i < values.size(); ++i)
        {
            mText << (i ? ", " : "");
            put(values[i]);
        }
        mText << ']';
    }
    template <class T> std::enable_if_t<std::is_arithmetic_v<T> || std::is_enum_v<T>> put(T value)
    {
        if constexpr (std::is_same_v<T, bool>)
            mText << (value ? "true" : "false");
        else if constexpr (std::is_enum_v<T>)
            mText << int(value);
        else
        {
            mText.precision(9);
            mText << value;
        }
    }

    std::ostringstream mText;
    std::FILE* mWeights;
};

struct LayerPart;

// Settings of a layer: a change makes shapes that were read before invalid.
struct Watched
{
    LayerPart* of = nullptr;
    void changed();
};
