import { planOfClass } from './plan.ts'
import { simulate } from './simulation.ts'

// Runs seeds one after the other and stops at the first that fails: `node test/sim/main.ts FIRST COUNT`; with CLASS in the
// environment, only those of that class.
const [first = '1', count = '1'] = process.argv.slice(2)
const { CLASS: onlyClass } = process.env
for (let seed = Number(first), left = Number(count); left > 0; seed++) {
  const plan = planOfClass(seed, onlyClass)
  if (onlyClass !== undefined && plan.faultClass !== onlyClass && onlyClass !== 'state') continue
  left--
  const traced = process.env.TRACE === '1'
  const outcome = await simulate(seed, { plan, traced })
  if (traced) console.log(outcome.trace.join('\n'))
  const { failure, trace: _trace, ...rest } = outcome
  if (process.env.QUIET !== '1' || failure !== undefined) console.log(JSON.stringify(rest))
  if (failure !== undefined) {
    console.log(`seed ${seed} (${outcome.faultClass}) failed: ${failure}`)
    if (process.env.KEEP_GOING !== '1') process.exit(1)
  }
}
