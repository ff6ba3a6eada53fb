import { resolve } from 'node:path'
import { hasCode, type HoldfastError } from '@holdfast/runtime'
import { defineCommand, outputForm, outputOption, usage } from '../command.ts'
import { join } from '../join.ts'

export const joinCommand = defineCommand({
  name: 'join',
  summary: 'make this machine a node: a key that never leaves it, and a certificate from cloudcore',
  details: 'Make a token with `holdfast token create` where cloudcore runs. Afterwards: edgecore --set dataDir=DIR',
  options: {
    server: { value: 'URL', required: true, summary: 'HTTPS port of cloudcore, such as https://cloud.example:10002.' },
    token: { value: 'TOKEN', required: true, summary: 'What `holdfast token create` printed.' },
    node: { value: 'NODE', required: true, summary: 'The node\'s name.' },
    'data-dir': { value: 'DIR', required: true, summary: 'Data directory of edgecore; the identity goes there.' },
    force: { summary: 'Replace an identity that is there. Stop edgecore first.' },
    adopt: { summary: 'As --force, and take this cluster\'s objects in place of those of the one before.' },
    ...outputOption
  },
  async run(values, host) {
    const form = outputForm(values.output)
    const { server, token, node, adopt } = values
    const dataDir = resolve(host.folder, values['data-dir'])
    const joined = await join({ server, token, node, dataDir, force: values.force || adopt, adopt, signal: host.shutdown })
      .catch((error: unknown) => {
        if (hasCode(error, 'JOIN_OPTION_INVALID')) throw usage((error as HoldfastError).message)
        throw error
      })
    await host.write(form === 'json' ? JSON.stringify(joined, null, 2) + '\n'
      : `${joined.node} has joined; its identity is in ${joined.folder}, good until ${joined.notAfter}.\n` +
        `Start it with: edgecore --set dataDir=${dataDir}\n`)
    return 0
  }
})
