import { appendFileSync } from 'node:fs'
import type { Reporter, TestModule } from 'vitest/node'

/**
 * Ends a run with one plain line, `N passed, N failed, N skipped`, and above it each skipped test with its reason.
 * The same counts go to the file that TEST_COUNTS names, a line a run, for whoever adds up several runs.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    const lines: string[] = []
    for (const module of modules) {
      let failedHere = 0
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') counts.passed++
        else if (result.state === 'failed') failedHere++
        else {
          counts.skipped++
          const reason = 'note' in result && result.note !== undefined ? result.note : 'no reason given'
          lines.push(`not run here: ${module.relativeModuleId} > ${test.fullName}: ${reason}`)
        }
      }
      // A file that does not load, or a hook that fails, has no failed test of its own.
      if (failedHere === 0 && module.state() === 'failed') failedHere = 1
      counts.failed += failedHere
    }
    if (modules.length === 0) lines.push('not run here: there are no tests of this kind')
    lines.push(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
    process.stdout.write(`\n${lines.join('\n')}\n`)
    const file = process.env['TEST_COUNTS']
    if (file !== undefined) appendFileSync(file, `${counts.passed} ${counts.failed} ${counts.skipped}\n`)
  }
}
