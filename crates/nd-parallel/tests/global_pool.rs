//! Rayon's global pool is the program's: nothing here starts it. A process of its own, because it is started once.

#[allow(dead_code, reason = "shared with the tests of the engine")]
#[path = "engine/net.rs"]
mod net;

use nd_parallel::{GradientEngine, ShardPlan};

use net::{Net, batch, descend};

#[test]
fn gradients_outside_of_any_pool_leave_the_global_one_alone() {
    for (coupled, plan) in [(false, ShardPlan::Rows(4)), (true, ShardPlan::Whole)] {
        let net = Net::new(0.3, coupled);
        let mut engine = GradientEngine::new().with_plan(plan);
        descend(&mut engine, &net, &batch(40), 0, 2).expect("finite");
    }
    let ours = rayon::ThreadPoolBuilder::new().num_threads(1);
    ours.build_global()
        .expect("the program's first use of the global pool");
}
