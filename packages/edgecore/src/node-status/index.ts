export { LinuxMachine } from './machine.ts'
export { NodeReporter } from './node-reporter.ts'
export { kubernetesTime } from './node-status.ts'
export type { NodeCondition, NodeStatus } from './node-status.ts'
