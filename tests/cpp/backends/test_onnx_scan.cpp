// The scan of ONNX bytes, on files written here field by field as the protobuf specification says.
#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <string>

#include "backends/onnx_scan.hpp"

namespace {

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7U) bytes += static_cast<char>((value & 0x7FU) | 0x80U);
  return bytes + static_cast<char>(value);
}

std::string message(std::uint32_t number, const std::string& content) {
  return varint(number << 3U | 2U) + varint(content.size()) + content;
}

std::string number(std::uint32_t field, std::uint64_t value) { return varint(field << 3U) + varint(value); }

std::optional<swiftdet::OnnxScan> scan(const std::string& bytes) {
  return swiftdet::scan_onnx(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

std::string output(const std::string& name) { return message(12, message(1, name)); }
std::string model(const std::string& graph) { return number(1, 8) + message(2, "producer") + message(7, graph); }

std::string external_tensor() { return message(8, "weights") + number(14, 1); }

}  // namespace

TEST_CASE("outputs are named in the order of the file") {
  const auto found = scan(model(output("z") + message(11, message(1, "input")) + output("a") + output("")));
  REQUIRE(found);
  CHECK(found->outputs == std::vector<std::string>{"z", "a", ""});
  CHECK_FALSE(found->external_tensor);
}

TEST_CASE("external data is found wherever a tensor may be") {
  const auto attribute = [](const std::string& content) { return message(1, message(5, content)); };
  const std::string deep = attribute(message(6, message(5, external_tensor())));
  for (const std::string& graph : {
           message(5, external_tensor()),                          // initializer
           message(15, message(1, external_tensor())),             // sparse initializer: values
           message(15, message(2, external_tensor())),             // and indices
           attribute(message(5, external_tensor())),               // attribute: tensor
           attribute(message(10, external_tensor())),              // list of tensors
           attribute(message(22, message(1, external_tensor()))),  // sparse tensor
           attribute(message(23, message(1, external_tensor()))),  // list of sparse tensors
           deep,                                                   // branch of a graph
           attribute(message(11, deep)),                           // branch of a branch
       }) {
    const auto found = scan(model(graph));
    REQUIRE(found);
    CHECK(found->external_tensor == "weights");
  }
  const auto in_function = scan(model("") + message(25, message(7, message(5, message(5, external_tensor())))));
  REQUIRE(in_function);
  CHECK(in_function->external_tensor == "weights");
}

TEST_CASE("enumerators are read as protobuf reads them: 32 bits") {
  const auto found = scan(model(message(5, number(14, (std::uint64_t{1} << 32U) | 1U))));
  REQUIRE(found);
  CHECK(found->external_tensor == "");
}

TEST_CASE("data inside the file is no external data, and outputs of branches are not the graph's") {
  const std::string branch = message(1, message(5, message(6, output("inner"))));
  const auto found =
      scan(model(message(5, message(8, "w") + number(14, 0) + message(9, "raw")) + branch + output("o")));
  REQUIRE(found);
  CHECK_FALSE(found->external_tensor);
  CHECK(found->outputs == std::vector<std::string>{"o"});
}

TEST_CASE("what is not ONNX is refused") {
  CHECK_FALSE(scan(""));
  CHECK_FALSE(scan("<?xml version=\"1.0\"?>"));
  CHECK_FALSE(scan(std::string(64, '\0')));
  CHECK_FALSE(scan(number(1, 8)));                                             // no graph
  CHECK_FALSE(scan(model("") + std::string(11, '\xFF')));                      // an endless varint
  CHECK_FALSE(scan(message(7, "").substr(0, 1) + varint(~std::uint64_t{0})));  // a length beyond any file
  CHECK_FALSE(scan(model("") + varint(9U << 3U | 3U)));                        // a group
}

TEST_CASE("nesting without end is refused") {
  std::string graph;
  for (int depth = 0; depth < 200; ++depth) graph = message(1, message(5, message(6, graph)));
  CHECK_FALSE(scan(model(graph)));
}

TEST_CASE("every truncation and any noise ends without a fault") {
  const std::string whole = model(message(5, external_tensor()) + output("out"));
  REQUIRE(scan(whole));
  const std::size_t head = whole.find(message(5, external_tensor())) - 1;  // up to the graph's own length
  for (std::size_t size = head; size < whole.size(); ++size) CHECK_FALSE(scan(whole.substr(0, size)));
  std::mt19937 random(7);  // NOLINT(bugprone-random-generator-seed): the same noise each time
  for (int round = 0; round < 20000; ++round) {
    std::string noisy = whole;
    noisy[random() % noisy.size()] = static_cast<char>(random());
    static_cast<void>(scan(noisy));
  }
}
