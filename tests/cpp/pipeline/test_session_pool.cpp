#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "detector/session_pool.hpp"

using swiftdet::SessionPool;
using swiftdet::Size;
using namespace std::chrono_literals;

namespace {

struct Token {
  Size key;
  int users = 0;
};

using Pool = SessionPool<Token>;

Pool make_pool(int limit, std::atomic<int>* made = nullptr) {
  return Pool(limit, [made](Size size) {
    if (made != nullptr) ++*made;
    return std::make_unique<Token>(Token{size});
  });
}

constexpr Size kSmall{32, 32};
constexpr Size kLarge{64, 64};

}  // namespace

TEST_CASE("sessions are made lazily, kept, and never more than the limit") {
  std::atomic<int> made{0};
  Pool pool = make_pool(2, &made);
  CHECK(made == 0);
  {
    const auto a = pool.acquire(kSmall);
    const auto b = pool.acquire(kSmall);
    CHECK(made == 2);
    CHECK_FALSE(static_cast<bool>(pool.try_acquire(kSmall)));
  }
  const auto c = pool.acquire(kSmall);
  CHECK(made == 2);
}

TEST_CASE("a new size evicts an idle session of another size once the limit is reached") {
  std::atomic<int> made{0};
  Pool pool = make_pool(1, &made);
  {
    const auto a = pool.acquire(kSmall);
  }
  {
    const auto b = pool.acquire(kLarge);
    CHECK(b->key == kLarge);
  }
  CHECK(made == 2);
  CHECK(pool.acquire(kLarge)->key == kLarge);
  CHECK(made == 2);
}

TEST_CASE("a factory that throws loses no place in the pool") {
  bool fail = true;
  Pool pool(1, [&fail](Size size) {
    if (fail) throw std::runtime_error("no");
    return std::make_unique<Token>(Token{size});
  });
  CHECK_THROWS_AS((void)pool.acquire(kSmall), std::runtime_error);
  fail = false;
  CHECK(static_cast<bool>(pool.try_acquire(kSmall)));
}

TEST_CASE("waiting threads are served in order of arrival") {
  Pool pool = make_pool(1);
  auto held = std::make_unique<Pool::Lease>(pool.acquire(kSmall));
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto lease = pool.acquire(kSmall);
      const std::lock_guard lock(mutex);
      order.push_back(i);
    });
    std::this_thread::sleep_for(30ms);  // so that thread i waits before thread i + 1 does
  }
  held.reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("many threads, mixed sizes: one user per session at any time") {
  Pool pool = make_pool(3);
  std::atomic<int> clashes{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const Size size = (i + t) % 3 == 0 ? kLarge : kSmall;
        const auto lease = pool.acquire(size);
        if (++lease->users != 1 || lease->key != size) ++clashes;
        std::this_thread::yield();
        --lease->users;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(clashes == 0);
}

TEST_CASE("a discarded session makes room for another, also for one who waits") {
  std::atomic<int> made{0};
  Pool pool = make_pool(1, &made);
  auto lease = pool.acquire(kSmall);
  std::thread waiter([&] { CHECK(pool.acquire(kSmall)->users == 0); });
  std::this_thread::sleep_for(20ms);
  lease->users = 7;
  lease.discard();
  waiter.join();
  CHECK_FALSE(static_cast<bool>(lease));
  CHECK(made == 2);
  CHECK(pool.acquire(kSmall)->users == 0);
  CHECK(made == 2);
}
