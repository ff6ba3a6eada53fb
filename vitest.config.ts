import { defineConfig } from 'vitest/config'

const project = (name: string, include: string[], testTimeoutMs: number) => ({
  test: {
    name, include, testTimeout: testTimeoutMs, hookTimeout: testTimeoutMs, environment: 'node' as const,
    // What takes a moment may take a second where there is much else to do.
    expect: { poll: { timeout: 10_000 } }
  }
})

export default defineConfig({
  test: {
    // Real processes and a noisy machine: two files at a time is what two cores carry.
    maxWorkers: 2,
    passWithNoTests: true,
    reporters: ['default', './test/summary-reporter.ts', './test/faults/results-reporter.ts'],
    projects: [
      project('unit', ['protos/**/*.test.ts', 'packages/**/*.test.ts', 'test/*.test.ts', 'test/kube-api/**/*.test.ts',
        'bench/**/*.test.ts'], 20_000),
      project('sim', ['test/sim/**/*.test.ts'], 300_000),
      project('e2e', ['test/e2e/**/*.test.ts', 'test/interop/**/*.test.ts'], 120_000),
      project('faults', ['test/faults/**/*.test.ts'], 600_000),
      project('system', ['test/system/**/*.test.ts'], 600_000)
    ]
  }
})
