// Sessions shared by any number of threads: created lazily up to a limit, handed out in order of arrival.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "swiftdet/base/error.hpp"
#include "swiftdet/base/interrupt.hpp"
#include "swiftdet/base/size.hpp"
#include "swiftdet/session_counts.hpp"

namespace swiftdet {

/// Pool of `Session` objects: anything with a member `Key key`, what it was made for.
///
/// Waiting is first come, first served: a released session goes straight to the thread that has waited longest, so no
/// thread starves. A thread may hold several sessions, but only its first acquisition may block; that rules out the
/// deadlock of two threads which each hold some and wait for more.
///
/// A thread may give up waiting (see Interrupts): it leaves the queue, and a session that was handed to it meanwhile
/// goes to the next. The pool must outlive its leases and those who wait.
template <typename Session, typename Key = Size>
class SessionPool {
 public:
  using Factory = std::function<std::unique_ptr<Session>(Key)>;

  /// A session on loan; goes back when the lease dies.
  class Lease {
   public:
    Lease() = default;
    Lease(SessionPool* pool, std::unique_ptr<Session> session) noexcept : pool_(pool), session_(std::move(session)) {}
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&& other) noexcept {
      give_back();
      pool_ = other.pool_;
      session_ = std::move(other.session_);
      return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { give_back(); }

    /// Destroys the session instead of giving it back, for one that a failure left in an unknown state.
    void discard() noexcept {
      if (!session_) return;
      session_.reset();
      pool_->replace_lost();
    }

    [[nodiscard]] Session* operator->() const noexcept { return session_.get(); }
    [[nodiscard]] Session& operator*() const noexcept { return *session_; }
    [[nodiscard]] explicit operator bool() const noexcept { return session_ != nullptr; }

   private:
    void give_back() noexcept {
      if (session_) pool_->release(std::move(session_));
    }
    SessionPool* pool_ = nullptr;
    std::unique_ptr<Session> session_;
  };

  SessionPool(int limit, Factory factory) : limit_(limit), factory_(std::move(factory)) {
    idle_.reserve(static_cast<std::size_t>(limit));
  }

  [[nodiscard]] int limit() const noexcept { return limit_; }

  /// Blocks until a session for `key` can be had.
  /// @throw DetectorClosed  close() came first; whatever the factory or the question throws; nothing is lost then.
  [[nodiscard]] Lease acquire(const Key& key, Interrupts& interrupts) { return acquire(key, interrupts, false); }

  /// As acquire(), for a call that has had a session before: it may go on after close().
  [[nodiscard]] Lease acquire_again(const Key& key, Interrupts& interrupts) { return acquire(key, interrupts, true); }

  /// A session for `key` if one is free at once, an empty lease otherwise.
  [[nodiscard]] Lease try_acquire(const Key& key) {
    std::unique_ptr<Session> session;
    {
      const std::lock_guard lock(mutex_);
      if (!available()) return {};
      session = take(key);
    }
    return complete(std::move(session), key);
  }

  /// Turns away, with DetectorClosed, those who wait and those who come. Sessions on loan are not touched.
  void close() noexcept {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (Waiter* waiter = first_waiter_; waiter != nullptr;) {
      Waiter* const next = waiter->next;
      if (!waiter->continues) {
        unlink(*waiter);
        waiter->state = State::kTurnedAway;
        waiter->ready.notify_one();
      }
      waiter = next;
    }
  }

  [[nodiscard]] SessionCounts counts() const {
    const std::lock_guard lock(mutex_);
    SessionCounts counts{.limit = limit_, .made = created_, .idle = static_cast<int>(idle_.size()), .waiting = 0};
    for (const Waiter* waiter = first_waiter_; waiter != nullptr; waiter = waiter->next) ++counts.waiting;
    return counts;
  }

 private:
  enum class State : std::uint8_t { kWaiting, kServed, kTurnedAway };

  // Lives on the stack of the thread that waits, so the queue never allocates.
  struct Waiter {
    std::condition_variable ready;
    std::unique_ptr<Session> session;
    State state = State::kWaiting;
    bool continues = false;
    Waiter* before = nullptr;
    Waiter* next = nullptr;
  };

  [[nodiscard]] Lease acquire(const Key& key, Interrupts& interrupts, bool continues) {
    std::unique_ptr<Session> session;
    {
      std::unique_lock lock(mutex_);
      if (closed_ && !continues) turn_away();
      session = available() ? take(key) : wait_in_line(lock, interrupts, continues);
    }
    return complete(std::move(session), key);
  }

  // Blocks until it is this thread's turn; the result is as take()'s. Call with the mutex held.
  [[nodiscard]] std::unique_ptr<Session> wait_in_line(std::unique_lock<std::mutex>& lock, Interrupts& interrupts,
                                                      bool continues) {
    Waiter self;
    self.continues = continues;
    self.before = last_waiter_;
    (last_waiter_ != nullptr ? last_waiter_->next : first_waiter_) = &self;
    last_waiter_ = &self;
    const auto is_over = [&self] { return self.state != State::kWaiting; };
    while (interrupts.wanted() && !self.ready.wait_for(lock, kInterruptInterval, is_over)) {
      lock.unlock();  // others are served while this thread asks
      try {
        interrupts.ask();
      } catch (...) {
        lock.lock();
        if (self.state == State::kWaiting) unlink(self);
        if (self.state == State::kServed) put_back(std::move(self.session));
        throw;
      }
      lock.lock();
    }
    self.ready.wait(lock, is_over);
    if (self.state == State::kTurnedAway) turn_away();
    return std::move(self.session);
  }

  [[noreturn]] static void turn_away() { throw DetectorClosed("this detector is closed; make a new one"); }

  // Takes a waiter out of the line. Call with the mutex held.
  void unlink(Waiter& waiter) noexcept {
    (waiter.before != nullptr ? waiter.before->next : first_waiter_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->before : last_waiter_) = waiter.before;
  }

  // Nobody overtakes those who wait already. Call with the mutex held.
  [[nodiscard]] bool available() const noexcept {
    return first_waiter_ == nullptr && (!idle_.empty() || created_ < limit_);
  }

  // An idle session, for `key` if there is one; nullptr stands for the right to create one. Call with the mutex held.
  [[nodiscard]] std::unique_ptr<Session> take(const Key& key) {
    std::size_t chosen = 0;  // the longest unused one makes room for a new key
    bool fits = false;
    for (std::size_t i = idle_.size(); i-- > 0 && !fits;) {  // the most recently used one: its buffers are warm
      fits = idle_[i]->key == key;
      if (fits) chosen = i;
    }
    if (!fits && created_ < limit_) {
      ++created_;
      return nullptr;
    }
    std::unique_ptr<Session> session = std::move(idle_[chosen]);
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(chosen));
    return session;
  }

  // Makes what take() gave into a session for `key`. Slow work (destroying, creating) happens without the mutex.
  [[nodiscard]] Lease complete(std::unique_ptr<Session> session, const Key& key) {
    if (session == nullptr || !(session->key == key)) {
      try {
        session.reset();
        session = factory_(key);
      } catch (...) {
        replace_lost();
        throw;
      }
    }
    return Lease(this, std::move(session));
  }

  // A session that was counted is no more: somebody who waits may make another.
  void replace_lost() noexcept {
    const std::lock_guard lock(mutex_);
    put_back(nullptr);
  }

  void release(std::unique_ptr<Session> session) noexcept {
    const std::lock_guard lock(mutex_);
    put_back(std::move(session));
  }

  // Hands `session`, or with nullptr the right to create one, to whoever waits longest, else keeps it. Call with the
  // mutex held.
  void put_back(std::unique_ptr<Session> session) noexcept {
    if (first_waiter_ == nullptr) {
      if (session == nullptr) {
        --created_;
      } else {
        idle_.push_back(std::move(session));  // never allocates: reserved for the limit
      }
      return;
    }
    Waiter& waiter = *first_waiter_;
    unlink(waiter);
    waiter.session = std::move(session);
    waiter.state = State::kServed;
    waiter.ready.notify_one();  // before the mutex goes: after it, the waiter's stack may be gone
  }

  int limit_;
  Factory factory_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;
  int created_ = 0;  // idle, on loan, or being made
  Waiter* first_waiter_ = nullptr;
  Waiter* last_waiter_ = nullptr;
  bool closed_ = false;
};

}  // namespace swiftdet
