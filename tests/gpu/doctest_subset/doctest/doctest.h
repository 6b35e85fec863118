// The few macros of doctest that the kernels' tests use, for GPU hosts where doctest is not installed. Where it is, it
// is used instead, and this file is not compiled.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace doctest {

struct TestCase {
  const char* name;
  void (*body)();
};

struct State {
  std::vector<TestCase> cases;
  std::vector<std::function<void(std::ostream&)>> captured;  // values of CAPTURE, in scope
  long checks = 0;
  long failures = 0;
};

inline State& state() {
  static State all;
  return all;
}

/// Ends a test case after a REQUIRE.
struct Ended {};

inline void report(const char* file, int line, const std::string& what) {
  ++state().failures;
  std::cout << file << ':' << line << ": " << what << '\n';
  for (const auto& print : state().captured) print(std::cout);
}

inline bool check(bool holds, const char* file, int line, const char* expression) {
  ++state().checks;
  if (!holds) report(file, line, std::string("does not hold: ") + expression);
  return holds;
}

template <typename Error, typename Body>
void check_throws(const char* file, int line, const char* expression, const char* words, Body body) {
  ++state().checks;
  try {
    body();
  } catch (const Error& error) {
    const std::string found = error.what();
    if (words != nullptr && found != words) report(file, line, std::string(expression) + " throws: " + found);
    return;
  } catch (const std::exception& error) {
    report(file, line, std::string(expression) + " throws another type: " + error.what());
    return;
  }
  report(file, line, std::string("throws nothing: ") + expression);
}

template <typename T>
class Capture {
 public:
  Capture(const char* name, T value) {
    state().captured.push_back([name, value](std::ostream& out) { out << "  " << name << " = " << value << '\n'; });
  }
  ~Capture() { state().captured.pop_back(); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
};

template <typename... Values>
void message(const Values&... values) {
  (std::cout << ... << values) << '\n';
}

struct Registration {
  Registration(const char* name, void (*body)()) { state().cases.push_back({name, body}); }
};

class Context {
 public:
  Context(int /*argc*/, char** /*argv*/) {}
  int run() {
    for (const TestCase& test : state().cases) {
      const long before = state().failures;
      try {
        test.body();
      } catch (const Ended&) {  // NOLINT(bugprone-empty-catch): reported already
      } catch (const std::exception& error) {
        report(test.name, 0, std::string("unexpected: ") + error.what());
      }
      std::cout << (state().failures == before ? "passed  " : "FAILED  ") << test.name << '\n';
    }
    std::cout << state().cases.size() << " cases, " << state().checks << " checks, " << state().failures
              << " failures\n";
    return state().failures == 0 && !state().cases.empty() ? 0 : 1;
  }
};

}  // namespace doctest

// NOLINTBEGIN(cppcoreguidelines-macro-usage): doctest's own names
#define DOCTEST_JOIN_2(a, b) a##b
#define DOCTEST_JOIN(a, b) DOCTEST_JOIN_2(a, b)
#define DOCTEST_CASE(function, name)                                                    \
  static void function();                                                               \
  static const doctest::Registration DOCTEST_JOIN(function, _is_known){name, function}; \
  static void function()
#define TEST_CASE(name) DOCTEST_CASE(DOCTEST_JOIN(doctest_case_, __LINE__), name)
#define CHECK(...) static_cast<void>(doctest::check(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__))
#define REQUIRE(...)                                                                                               \
  do {                                                                                                             \
    if (!doctest::check(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)) throw doctest::Ended(); \
  } while (false)
#define CHECK_THROWS_AS(expression, type) \
  doctest::check_throws<type>(__FILE__, __LINE__, #expression, nullptr, [&] { static_cast<void>(expression); })
#define CHECK_THROWS_WITH_AS(expression, words, type) \
  doctest::check_throws<type>(__FILE__, __LINE__, #expression, words, [&] { static_cast<void>(expression); })
#define CAPTURE(value) const doctest::Capture DOCTEST_JOIN(doctest_capture_, __LINE__)(#value, value)
#define MESSAGE(...) doctest::message(__VA_ARGS__)
// NOLINTEND(cppcoreguidelines-macro-usage)
