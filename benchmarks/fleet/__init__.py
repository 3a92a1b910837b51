"""What a rollout costs the controller and the fleet's database, and how that grows."""
