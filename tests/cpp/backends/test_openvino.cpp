// The OpenVINO engine without Python, for the sanitizers: sessions in threads, and every order of destruction.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "swiftdet/base/error.hpp"
#include "swiftdet/openvino.hpp"

namespace {

using swiftdet::Shape;

/// An IR: `images` [shape] times `factors` [1,3,1,1], which are its weights.
std::string network(const std::string& dims) {
  std::string data_shape;
  std::string port;
  for (const char c : dims + ",") {
    if (c != ',') {
      data_shape += c;
      continue;
    }
    const std::size_t last = data_shape.rfind(',');
    port += "<dim>" + data_shape.substr(last == std::string::npos ? 0 : last + 1) + "</dim>";
    data_shape += ',';
  }
  const std::string factors = "<dim>1</dim><dim>3</dim><dim>1</dim><dim>1</dim>";
  return R"(<?xml version="1.0"?><net name="scale" version="11"><layers>
    <layer id="0" name="images" type="Parameter" version="opset1"><data shape=")" +
         dims + R"(" element_type="f32"/><output><port id="0" precision="FP32" names="images">)" + port +
         R"(</port></output></layer>
    <layer id="1" name="factors" type="Const" version="opset1">
      <data element_type="f32" shape="1,3,1,1" offset="0" size="12"/>
      <output><port id="0" precision="FP32">)" +
         factors + R"(</port></output></layer>
    <layer id="2" name="times" type="Multiply" version="opset1"><data auto_broadcast="numpy"/>
      <input><port id="0" precision="FP32">)" +
         port + R"(</port><port id="1" precision="FP32">)" + factors +
         R"(</port></input><output><port id="2" precision="FP32" names="scaled">)" + port + R"(</port></output></layer>
    <layer id="3" name="result" type="Result" version="opset1"><input><port id="0" precision="FP32">)" +
         port + R"(</port></input></layer></layers><edges>
    <edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
    <edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
    <edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>)";
}

std::shared_ptr<const swiftdet::Backend> compile(const std::string& dims) {
  const char* const folder = std::getenv("SWIFTDET_OPENVINO_LIB");
  REQUIRE_MESSAGE(folder != nullptr, "SWIFTDET_OPENVINO_LIB must name OpenVINO's libraries; ctest sets it");
  const std::string xml = network(dims);
  const std::vector<float> factors = {2, 3, 5};  // dies before the engine is used
  return swiftdet::openvino::Runtime::load(folder)->compile(std::as_bytes(std::span(xml)),
                                                            std::as_bytes(std::span(factors)), {});
}

void run_and_check(swiftdet::BackendSession& session, float value) {
  const auto input = session.input();
  const std::int64_t volume = input.shape.volume();
  for (std::int64_t i = 0; i < volume; ++i) input.data[i] = value + static_cast<float>(i);
  session.start();
  session.wait();
  const auto output = session.outputs()[0];
  REQUIRE(output.shape == input.shape);
  const float factors[] = {2, 3, 5};
  const std::int64_t plane = input.shape[2] * input.shape[3];
  bool equal = true;
  for (std::int64_t i = 0; i < volume; ++i) {
    equal &= output.data[i] == (value + static_cast<float>(i)) * factors[i / plane % 3];
  }
  CHECK(equal);
}

}  // namespace

TEST_CASE("a session outlives its engine's handle, and may die while it runs") {
  for (const char* const dims : {"1,3,8,8", "-1,3,-1,-1"}) {
    auto engine = compile(dims);
    CHECK(engine->outputs()[0].name == "scaled");
    auto session = engine->create_session(Shape{1, 3, 8, 8});
    engine.reset();
    run_and_check(*session, 1.0F);
    run_and_check(*session, 100.0F);
    session->start();
    session.reset();
  }
}

TEST_CASE("sessions of one engine run side by side") {
  const auto engine = compile("-1,3,-1,-1");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&engine, t] {
      auto session = engine->create_session(Shape{t + 1, 3, 5, 7});
      for (int round = 0; round < 20; ++round) run_and_check(*session, static_cast<float>(round));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("shapes that do not fit are refused") {
  const auto engine = compile("1,3,8,8");
  CHECK_THROWS_AS(static_cast<void>(engine->create_session(Shape{1, 3, 8, 9})), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(static_cast<void>(engine->create_session(Shape{1, 3, 8})), swiftdet::InvalidArgument);
  run_and_check(*engine->create_session(Shape{1, 3, 8, 8}), 3.0F);
}
