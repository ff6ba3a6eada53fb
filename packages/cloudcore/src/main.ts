import { arch, hostname, platform } from 'node:os'
import { configure, failpointOf, runProgram } from '@holdfast/runtime'
import packageJson from '../package.json' with { type: 'json' }
import { cloudcoreSchema } from './config.ts'

/** Kubernetes' names for those that Node.js calls otherwise. */
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' }

await runProgram({ name: 'cloudcore' }, async program => {
  const config = await configure({
    name: 'cloudcore',
    summary: 'the cloud side of Holdfast: one tunnel per node, the cloud log and its readers',
    version: packageJson.version,
    schema: cloudcoreSchema
  }, program.args, text => program.print(text))
  if (config === undefined) return
  const { runCloudcore } = await import('./cloudcore.ts')
  await runCloudcore(config, {
    log: program.openLog(config.log.level),
    version: packageJson.version,
    hostname: hostname(),
    platform: `${platform()}/${architectures[arch()] ?? arch()}`,
    failpoint: failpointOf(program.environment)
  }, program.shutdown)
})
