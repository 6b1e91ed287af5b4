//! quorate-learner
