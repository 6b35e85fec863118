#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "detector/session_pool.hpp"

using swiftdet::DetectorClosed;
using swiftdet::Interrupts;
using swiftdet::SessionCounts;
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

Pool::Lease acquire(Pool& pool, Size size) {
  Interrupts none(nullptr);
  return pool.acquire(size, none);
}

struct GivenUp : std::exception {};

void wait_until_waiting(const Pool& pool, int waiting) {
  while (pool.counts().waiting != waiting) std::this_thread::sleep_for(1ms);
}

}  // namespace

TEST_CASE("sessions are made lazily, kept, and never more than the limit") {
  std::atomic<int> made{0};
  Pool pool = make_pool(2, &made);
  CHECK(made == 0);
  {
    const auto a = acquire(pool, kSmall);
    const auto b = acquire(pool, kSmall);
    CHECK(made == 2);
    CHECK_FALSE(static_cast<bool>(pool.try_acquire(kSmall)));
  }
  const auto c = acquire(pool, kSmall);
  CHECK(made == 2);
}

TEST_CASE("a new size evicts an idle session of another size once the limit is reached") {
  std::atomic<int> made{0};
  Pool pool = make_pool(1, &made);
  {
    const auto a = acquire(pool, kSmall);
  }
  {
    const auto b = acquire(pool, kLarge);
    CHECK(b->key == kLarge);
  }
  CHECK(made == 2);
  CHECK(acquire(pool, kLarge)->key == kLarge);
  CHECK(made == 2);
}

TEST_CASE("a factory that throws loses no place in the pool") {
  bool fail = true;
  Pool pool(1, [&fail](Size size) {
    if (fail) throw std::runtime_error("no");
    return std::make_unique<Token>(Token{size});
  });
  CHECK_THROWS_AS((void)acquire(pool, kSmall), std::runtime_error);
  fail = false;
  CHECK(static_cast<bool>(pool.try_acquire(kSmall)));
}

TEST_CASE("waiting threads are served in order of arrival") {
  Pool pool = make_pool(1);
  auto held = std::make_unique<Pool::Lease>(acquire(pool, kSmall));
  std::mutex mutex;
  std::vector<int> order;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto lease = acquire(pool, kSmall);
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
        const auto lease = acquire(pool, size);
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
  auto lease = acquire(pool, kSmall);
  std::thread waiter([&] { CHECK(acquire(pool, kSmall)->users == 0); });
  std::this_thread::sleep_for(20ms);
  lease->users = 7;
  lease.discard();
  waiter.join();
  CHECK_FALSE(static_cast<bool>(lease));
  CHECK(made == 2);
  CHECK(acquire(pool, kSmall)->users == 0);
  CHECK(made == 2);
}

TEST_CASE("the counts say what is there") {
  Pool pool = make_pool(2);
  CHECK(pool.counts().limit == 2);
  CHECK(pool.counts().made == 0);
  auto a = std::make_unique<Pool::Lease>(acquire(pool, kSmall));
  auto b = std::make_unique<Pool::Lease>(acquire(pool, kLarge));
  std::thread waiter([&] { CHECK(acquire(pool, kSmall)->key == kSmall); });
  wait_until_waiting(pool, 1);
  CHECK(pool.counts().made == 2);
  CHECK(pool.counts().idle == 0);
  a.reset();
  waiter.join();
  b.reset();
  CHECK(pool.counts().waiting == 0);
  CHECK(pool.counts().idle == 2);
}

TEST_CASE("who gives up waiting leaves the line, and the others keep their order") {
  Pool pool = make_pool(1);
  auto held = std::make_unique<Pool::Lease>(acquire(pool, kSmall));
  static std::atomic<bool> give_up;
  give_up = false;
  std::mutex mutex;
  std::vector<int> order;
  std::vector<int> gone;
  std::vector<std::thread> threads;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&, i] {
      // 0, 2 and 4 give up when told to: the first, the middle and the last of the line.
      Interrupts interrupts(i % 2 != 0 ? nullptr : +[] { return give_up ? throw GivenUp() : true; });
      try {
        const auto lease = pool.acquire(kSmall, interrupts);
        const std::lock_guard lock(mutex);
        order.push_back(i);
      } catch (const GivenUp&) {
        const std::lock_guard lock(mutex);
        gone.push_back(i);
      }
    });
    wait_until_waiting(pool, i + 1);
  }
  give_up = true;
  wait_until_waiting(pool, 2);
  held.reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(order == std::vector<int>{1, 3});
  CHECK(gone.size() == 3);
  CHECK(pool.counts().made == 1);
  CHECK(pool.counts().idle == 1);
}

TEST_CASE("a session handed to one who gives up at that moment goes to the next") {
  static std::unique_ptr<Pool::Lease> held;
  static bool lose;
  SUBCASE("a session") { lose = false; }
  SUBCASE("the right to make one") { lose = true; }
  Pool pool = make_pool(1);
  held = std::make_unique<Pool::Lease>(acquire(pool, kSmall));
  std::atomic<bool> gave_up{false};
  std::thread first([&] {
    Interrupts interrupts(+[]() -> bool {
      if (lose) held->discard();
      held.reset();  // now the waiter has it, and does not know yet
      throw GivenUp();
    });
    try {
      (void)pool.acquire(kSmall, interrupts);
    } catch (const GivenUp&) {
      gave_up = true;
    }
  });
  wait_until_waiting(pool, 1);
  std::thread second([&] { CHECK(acquire(pool, kSmall)->key == kSmall); });
  first.join();
  second.join();
  CHECK(gave_up);
  CHECK(pool.counts().made == 1);
  CHECK(pool.counts().idle == 1);
}

TEST_CASE("closing turns away those who wait and those who come, not those who have one") {
  Pool pool = make_pool(1);
  auto held = std::make_unique<Pool::Lease>(acquire(pool, kSmall));
  std::atomic<int> refused{0};
  std::atomic<bool> went_on{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      try {
        (void)acquire(pool, kSmall);
      } catch (const DetectorClosed&) {
        ++refused;
      }
    });
  }
  wait_until_waiting(pool, 3);
  threads.emplace_back([&] {
    Interrupts none(nullptr);
    went_on = pool.acquire_again(kLarge, none)->key == kLarge;
  });
  wait_until_waiting(pool, 4);
  pool.close();
  wait_until_waiting(pool, 1);
  CHECK_THROWS_AS((void)acquire(pool, kSmall), DetectorClosed);
  held.reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(refused == 3);
  CHECK(went_on);
  pool.close();
  CHECK(pool.counts().idle == 1);
}

TEST_CASE("whoever gives up, fails or discards, no session is lost") {
  std::atomic<int> refusals{0};
  Pool pool(3, [&refusals](Size size) {
    if (++refusals % 7 == 0) throw std::runtime_error("no");
    return std::make_unique<Token>(Token{size});
  });
  std::atomic<int> clashes{0};
  std::atomic<int> given_up{0};
  std::atomic<int> refused{0};
  const auto take_all = [&] {
    std::vector<Pool::Lease> all;
    for (int i = 0; i < 30 && all.size() < 3; ++i) {
      try {
        all.push_back(acquire(pool, kSmall));
      } catch (const std::runtime_error&) {
        ++refused;
      }
    }
    return all;
  };
  std::vector<Pool::Lease> held = take_all();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<std::mt19937::result_type>(t));
      for (int i = 0; i < 30; ++i) {
        const Size size = random() % 2 == 0 ? kLarge : kSmall;
        Interrupts interrupts(random() % 2 == 0 ? nullptr : +[]() -> bool { throw GivenUp(); });
        try {
          auto lease = pool.acquire(size, interrupts);
          if (++lease->users != 1 || lease->key != size) ++clashes;
          std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
          --lease->users;
          if (random() % 5 == 0) lease.discard();
        } catch (const GivenUp&) {
          ++given_up;
        } catch (const std::runtime_error&) {
          ++refused;
        }
      }
    });
  }
  while (given_up == 0) std::this_thread::sleep_for(1ms);  // nobody can have one, and some do not wait for ever
  held.clear();
  for (std::thread& thread : threads) thread.join();
  CHECK(clashes == 0);
  CHECK(given_up > 0);
  const SessionCounts counts = pool.counts();
  CHECK(counts.waiting == 0);
  CHECK(counts.made == counts.idle);
  CHECK(take_all().size() == 3);
  CHECK(refused > 0);
}
